"""Workload identity pools and their providers. Deleted ones keep their ids taken for 30 days, on Google as here."""

from __future__ import annotations

from typing import Any

from localcloud.pulumi_provider import rest
from localcloud.pulumi_provider.errors import ProviderError
from localcloud.pulumi_provider.kinds import Field, Kind, Properties
from localcloud.pulumi_provider.rest import POOLS, NotFound

REQUIRED = Field(required=True, fixed=True)
TEXTS = ("displayName", "description", "disabled")
CLAIMS = ("attributeMapping", "attributeCondition", "oidc")


def parent(inputs: Properties) -> str:
    return f"projects/{inputs['project']}/locations/global/workloadIdentityPools"


def pool_path(inputs: Properties) -> str:
    return f"{parent(inputs)}/{inputs['workloadIdentityPoolId']}"


def provider_path(inputs: Properties) -> str:
    return f"{pool_path(inputs)}/providers/{inputs['workloadIdentityPoolProviderId']}"


def given(inputs: Properties, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: inputs[name] for name in names if name in inputs}


def create(collection: str, query: dict[str, Any], body: dict[str, Any]) -> None:
    (identifier,) = query.values()
    try:
        rest.finish(POOLS, POOLS.call("POST", collection, query, body))
    except rest.Conflict as error:
        raise ProviderError(
            f"{error}: {identifier} is taken; a deleted one can be had back with `gcloud iam "
            "workload-identity-pools undelete` for 30 days, and then be imported"
        ) from None


def read(path: str, names: tuple[str, ...]) -> dict[str, Any] | None:
    try:
        found = POOLS.call("GET", path)
    except NotFound:
        return None
    if found.get("state") == "DELETED":
        return None
    return {name: found[name] for name in ("name", "state", *names) if name in found}


def patch(path: str, body: dict[str, Any], names: tuple[str, ...]) -> None:
    rest.finish(POOLS, POOLS.call("PATCH", path, {"updateMask": ",".join(names)}, body))


def delete(path: str) -> None:
    try:
        rest.finish(POOLS, POOLS.call("DELETE", path))
    except NotFound:
        return


POOL = Kind(
    fields={
        "project": REQUIRED,
        "workloadIdentityPoolId": REQUIRED,
        "displayName": Field(),
        "description": Field(),
        "disabled": Field(),
    },
    identity=pool_path,
    create=lambda inputs: create(
        parent(inputs), {"workloadIdentityPoolId": inputs["workloadIdentityPoolId"]}, given(inputs, TEXTS)
    ),
    read=lambda inputs: read(pool_path(inputs), TEXTS),
    update=lambda inputs: patch(pool_path(inputs), given(inputs, TEXTS), TEXTS),
    delete=lambda inputs: delete(pool_path(inputs)),
)

POOL_PROVIDER = Kind(
    fields={
        "project": REQUIRED,
        "workloadIdentityPoolId": REQUIRED,
        "workloadIdentityPoolProviderId": REQUIRED,
        "displayName": Field(),
        "description": Field(),
        "disabled": Field(),
        "attributeMapping": Field(),
        "attributeCondition": Field(),
        "oidc": Field(required=True),
    },
    identity=provider_path,
    create=lambda inputs: create(
        f"{pool_path(inputs)}/providers",
        {"workloadIdentityPoolProviderId": inputs["workloadIdentityPoolProviderId"]},
        given(inputs, (*TEXTS, *CLAIMS)),
    ),
    read=lambda inputs: read(provider_path(inputs), (*TEXTS, *CLAIMS)),
    update=lambda inputs: patch(provider_path(inputs), given(inputs, (*TEXTS, *CLAIMS)), (*TEXTS, *CLAIMS)),
    delete=lambda inputs: delete(provider_path(inputs)),
)

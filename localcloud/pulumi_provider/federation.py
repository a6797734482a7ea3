"""Workload identity pools and providers."""

from __future__ import annotations

from typing import Any

from localcloud.pulumi_provider import rest
from localcloud.pulumi_provider.common import PROJECT, REQUIRED, gone, project
from localcloud.pulumi_provider.kinds import Field, Kind, Properties, import_pattern
from localcloud.pulumi_provider.rest import POOLS, Conflict, Refused

TEXTS = ("displayName", "description", "disabled")
OF_PROVIDER = (*TEXTS, "attributeMapping", "attributeCondition", "oidc", "aws", "saml", "x509")


def pools_path(inputs: Properties) -> str:
    return f"projects/{inputs['project']}/locations/global/workloadIdentityPools"


def pool_path(inputs: Properties) -> str:
    return f"{pools_path(inputs)}/{inputs['workloadIdentityPoolId']}"


def provider_path(inputs: Properties) -> str:
    return f"{pool_path(inputs)}/providers/{inputs['workloadIdentityPoolProviderId']}"


def body_of(inputs: Properties, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: inputs[name] for name in names if name in inputs}


def create(parent: str, query: dict[str, str], path: str, body: dict[str, Any]) -> None:
    """One of them. Google keeps the id of a deleted one for 30 days, and the 409 does not say so: here it is said."""
    try:
        rest.finish(POOLS, POOLS.call("POST", parent, query, body))
    except Conflict:
        live = gone(POOLS.call, "GET", path)
        if live is None or live.get("state") != "DELETED":
            raise
        raise Refused(
            f"{path} was deleted and keeps its id until {live['expireTime']}: take another id, or have it back with "
            "`gcloud iam workload-identity-pools [providers] undelete` and `pulumi import`"
        ) from None


def read(path: str, names: tuple[str, ...]) -> dict[str, Any] | None:
    """What is live; a deleted one is gone, as for the real provider."""
    found = gone(POOLS.call, "GET", path)
    if found is None or found.get("state") == "DELETED":
        return None
    return {name: found[name] for name in (*names, "name", "state") if name in found}


def update(path: str, inputs: Properties, names: tuple[str, ...]) -> None:
    rest.finish(POOLS, POOLS.call("PATCH", path, {"updateMask": ",".join(names)}, body_of(inputs, names)))


def delete(path: str, names: tuple[str, ...]) -> None:
    if read(path, names) is not None:
        rest.finish(POOLS, POOLS.call("DELETE", path))


def import_pool(given: str) -> dict[str, Any] | None:
    named = import_pattern(
        "projects/{project}/locations/global/workloadIdentityPools/{workloadIdentityPoolId}",
        "{project}/{workloadIdentityPoolId}",
        "{workloadIdentityPoolId}",
    )(given)
    return None if named is None else {"project": project(), **named}


def import_provider(given: str) -> dict[str, Any] | None:
    pool, provider = "{workloadIdentityPoolId}", "{workloadIdentityPoolProviderId}"
    named = import_pattern(
        f"projects/{{project}}/locations/global/workloadIdentityPools/{pool}/providers/{provider}",
        f"{{project}}/{pool}/{provider}",
        f"{pool}/{provider}",
    )(given)
    return None if named is None else {"project": project(), **named}


POOL = Kind(
    fields={
        "project": PROJECT,
        "workloadIdentityPoolId": REQUIRED,
        "mode": Field(fixed=True),
        **{name: Field() for name in TEXTS},
    },
    identity=pool_path,
    create=lambda inputs: create(
        pools_path(inputs),
        {"workloadIdentityPoolId": inputs["workloadIdentityPoolId"]},
        pool_path(inputs),
        body_of(inputs, (*TEXTS, "mode")),
    ),
    read=lambda inputs: read(pool_path(inputs), (*TEXTS, "mode")),
    update=lambda inputs: update(pool_path(inputs), inputs, TEXTS),
    delete=lambda inputs: delete(pool_path(inputs), TEXTS),
    reported=frozenset(TEXTS),
    unique=True,
    imported=import_pool,
)

PROVIDER = Kind(
    fields={
        "project": PROJECT,
        "workloadIdentityPoolId": REQUIRED,
        "workloadIdentityPoolProviderId": REQUIRED,
        **{name: Field() for name in OF_PROVIDER},
    },
    identity=provider_path,
    create=lambda inputs: create(
        f"{pool_path(inputs)}/providers",
        {"workloadIdentityPoolProviderId": inputs["workloadIdentityPoolProviderId"]},
        provider_path(inputs),
        body_of(inputs, OF_PROVIDER),
    ),
    read=lambda inputs: read(provider_path(inputs), OF_PROVIDER),
    update=lambda inputs: update(provider_path(inputs), inputs, OF_PROVIDER),
    delete=lambda inputs: delete(provider_path(inputs), OF_PROVIDER),
    reported=frozenset(OF_PROVIDER),
    unique=True,
    imported=import_provider,
)

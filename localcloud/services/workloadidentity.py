"""IAM: workload identity pools and their providers, through which a workload elsewhere (a CI run) becomes a principal.

Kept and checked as Google does; tokens are not exchanged here. Deleted ones can be had back for 30 days, and until then their
ids stay taken. Sources: the iam v1 discovery document; the page "Configure Workload Identity Federation with deployment
pipelines".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from localcloud import masks
from localcloud.api import ApiError, Call, invalid, method, not_found
from localcloud.cloud import rfc3339
from localcloud.database import register_schema
from localcloud.policies import get_policy, set_policy
from localcloud.services.operations import finished
from localcloud.services.projects import check_project

register_schema(
    """
    CREATE TABLE IF NOT EXISTS workload_identities (
        name TEXT PRIMARY KEY,            -- of a pool or a provider
        parent TEXT NOT NULL,
        body TEXT NOT NULL
    ) WITHOUT ROWID;
    """
)

KEPT = timedelta(days=30)
_POOLS = "iam.projects.locations.workloadIdentityPools"
_KIND = "google.iam.v1"
_ID = re.compile(r"(?!gcp-)[a-z0-9-]{4,32}")
_ATTRIBUTE = re.compile(r"google\.(subject|groups|display_name|profile_photo|posix_username|email)|attribute\.[a-z0-9_]{1,100}")
_POOL_FIELDS = ("displayName", "description", "disabled", "inlineCertificateIssuanceConfig", "inlineTrustConfig")
_SOURCES = ("oidc", "aws", "saml", "x509")
_PROVIDER_FIELDS = ("displayName", "description", "disabled", "attributeMapping", "attributeCondition", *_SOURCES)
# of issuers whose tokens anybody can have, Google wants a condition
_SHARED_ISSUERS = ("https://token.actions.githubusercontent.com", "https://gitlab.com", "https://app.terraform.io")


@method(f"{_POOLS}.create")
def create_pool(call: Call) -> dict[str, Any]:
    """A pool; its id stays taken until 30 days after its deletion."""
    _check_texts(call.body)
    body = {name: call.body[name] for name in (*_POOL_FIELDS, "mode") if name in call.body}
    return _create(call, call.params.get("workloadIdentityPoolId", ""), body)


@method(f"{_POOLS}.providers.create")
def create_provider(call: Call) -> dict[str, Any]:
    """A provider of a pool that is not deleted."""
    _live(call, call.params["parent"])
    body = {name: call.body[name] for name in _PROVIDER_FIELDS if name in call.body}
    _check_provider(body)
    return _create(call, call.params.get("workloadIdentityPoolProviderId", ""), body)


@method(f"{_POOLS}.get", f"{_POOLS}.providers.get")
def get(call: Call) -> dict[str, Any]:
    """One, deleted ones too."""
    return _read(call, call.params["name"])


@method(f"{_POOLS}.list", f"{_POOLS}.providers.list")
def list_(call: Call) -> dict[str, Any]:
    """A page of pools, or of a pool's providers, by name."""
    parent = _canonical(call, call.params["parent"])
    providers = "/workloadIdentityPools/" in parent
    if providers:
        _read(call, parent)
    limit = call.params.get("pageSize", 0)
    if limit < 0:
        raise invalid(f"page_size must not be negative, but is {limit}.", field_path="pageSize")
    limit = min(limit or 50, 1000 if not providers else 100)
    rows = call.cloud.db.query(
        "SELECT name, body FROM workload_identities WHERE parent = ? AND name > ?"
        " AND (? OR json_extract(body, '$.state') = 'ACTIVE') ORDER BY name LIMIT ?",
        (parent, call.params.get("pageToken", ""), call.params.get("showDeleted", False), limit + 1),
    )
    found = [json.loads(row["body"]) for row in rows[:limit]]
    answer: dict[str, Any] = {"workloadIdentityPoolProviders" if providers else "workloadIdentityPools": found} if found else {}
    if len(rows) > limit:
        answer["nextPageToken"] = rows[limit - 1]["name"]
    return answer


@method(f"{_POOLS}.patch", f"{_POOLS}.providers.patch")
def patch(call: Call) -> dict[str, Any]:
    """What the mask names, changed."""
    with call.cloud.db.transaction():
        old = _live(call, call.params["name"])
        provider = "/providers/" in old["name"]
        allowed = _PROVIDER_FIELDS if provider else _POOL_FIELDS
        body = masks.merge(old, call.body, call.params.get("updateMask", ""), allowed)
        if provider:
            _check_provider(body)
        _check_texts(body)
        return _store(call, body)


@method(f"{_POOLS}.delete", f"{_POOLS}.providers.delete")
def delete(call: Call) -> dict[str, Any]:
    """Marked as deleted, for 30 days."""
    with call.cloud.db.transaction():
        body = _live(call, call.params["name"])
        return _store(call, {**body, "state": "DELETED", "expireTime": rfc3339(call.cloud.now() + KEPT)})


@method(f"{_POOLS}.undelete", f"{_POOLS}.providers.undelete")
def undelete(call: Call) -> dict[str, Any]:
    """Had back as it was."""
    with call.cloud.db.transaction():
        body = _read(call, call.params["name"])
        if body["state"] != "DELETED":
            raise ApiError(400, "FAILED_PRECONDITION", f"{body['name']} is not deleted.")
        return _store(call, {**{name: value for name, value in body.items() if name != "expireTime"}, "state": "ACTIVE"})


@method(f"{_POOLS}.listAttestationRules")
def list_attestation_rules(call: Call) -> dict[str, Any]:
    """None: attestation rules are for workloads that run on Google Cloud."""
    _read(call, call.params["resource"])
    return {}


@method(f"{_POOLS}.getIamPolicy")
def get_iam_policy(call: Call) -> dict[str, Any]:
    return get_policy(call.cloud, _read(call, call.params["resource"])["name"])


@method(f"{_POOLS}.setIamPolicy")
def set_iam_policy(call: Call) -> dict[str, Any]:
    return set_policy(call.cloud, _read(call, call.params["resource"])["name"], call.body.get("policy", {}))


def _canonical(call: Call, name: str) -> str:
    """The name with the project's number, as the service gives it. Raises ApiError 403 and 400."""
    _, project, _, location, *rest = name.split("/")
    check_project(call.cloud, project)
    if location != "global":
        raise invalid(f"Location {location!r} has no workload identity pools: they are all in 'global'.", field_path="parent")
    return "/".join(["projects", call.cloud.project_number, "locations", "global", *rest])


def _read(call: Call, name: str) -> dict[str, Any]:
    """What is stored under a name; gone when its 30 days are over. Raises ApiError 404."""
    name = _canonical(call, name)
    row = call.cloud.db.one("SELECT body FROM workload_identities WHERE name = ?", (name,))
    body: dict[str, Any] = json.loads(row["body"]) if row else {}
    if body.get("expireTime", "9999") <= rfc3339(call.cloud.now()):
        call.cloud.db.execute("DELETE FROM workload_identities WHERE name = ? OR parent = ?", (name, name))
        body = {}
    if not body:
        raise not_found("Requested entity was not found.")
    return body


def _live(call: Call, name: str) -> dict[str, Any]:
    """As `_read`; raises ApiError 400 for one that is deleted."""
    body = _read(call, name)
    if body["state"] == "DELETED":
        raise ApiError(
            400, "FAILED_PRECONDITION", f"{body['name']} is deleted; it can be undeleted until {body['expireTime']}."
        )
    return body


def _create(call: Call, given_id: str, body: dict[str, Any]) -> dict[str, Any]:
    what = "workloadIdentityPools" if "/workloadIdentityPools/" not in call.params["parent"] else "providers"
    if not _ID.fullmatch(given_id):
        raise invalid(
            f"Invalid id {given_id!r}: 4 to 32 lowercase letters, digits and hyphens, and not `gcp-` at its beginning.",
            field_path="workloadIdentityPoolId" if what == "workloadIdentityPools" else "workloadIdentityPoolProviderId",
        )
    name = f"{_canonical(call, call.params['parent'])}/{what}/{given_id}"
    with call.cloud.db.transaction():
        try:
            _read(call, name)
        except ApiError as error:
            if error.code != 404:
                raise
        else:
            raise ApiError(409, "ALREADY_EXISTS", "Requested entity already exists")
        return _store(call, {"name": name, **body, "state": "ACTIVE"})


def _store(call: Call, body: dict[str, Any]) -> dict[str, Any]:
    """Keeps a pool or a provider, and tells so as an operation."""
    name = body["name"]
    parent = name.rpartition("/workloadIdentityPools/")[0] if "/providers/" not in name else name.rpartition("/providers/")[0]
    call.cloud.db.execute("INSERT OR REPLACE INTO workload_identities VALUES (?, ?, ?)", (name, parent, json.dumps(body)))
    kind = "WorkloadIdentityPoolProvider" if "/providers/" in name else "WorkloadIdentityPool"
    return finished(
        call.cloud,
        name,
        kind=f"{_KIND}.{kind}",
        response=body,
        metadata={"@type": f"type.googleapis.com/{_KIND}.{kind}OperationMetadata"},
    )


def _check_texts(body: Mapping[str, Any]) -> None:
    for name, limit in (("displayName", 32), ("description", 256), ("attributeCondition", 4096)):
        if len(body.get(name, "")) > limit:
            raise invalid(f"{name} cannot exceed {limit} characters.", field_path=name)


def _check_provider(body: Mapping[str, Any]) -> None:
    """Raises ApiError 400 for what no provider can be."""
    _check_texts(body)
    sources = [name for name in _SOURCES if name in body]
    if len(sources) != 1:
        raise invalid(f"Exactly one of {', '.join(_SOURCES)} must be set.")
    mapping = body.get("attributeMapping", {})
    for key in mapping:
        if not _ATTRIBUTE.fullmatch(key):
            raise invalid(f"Invalid mapped attribute key: {key}", field_path="attributeMapping")
    if "aws" in body:
        return
    if not mapping.get("google.subject"):
        raise invalid("The attribute mapping must map google.subject.", field_path="attributeMapping")
    issuer = body.get("oidc", {}).get("issuerUri", "")
    if "oidc" in body and not issuer.startswith("https://"):
        raise invalid(f"The issuer URI {issuer!r} must be an HTTPS endpoint.", field_path="oidc.issuerUri")
    condition = body.get("attributeCondition", "")
    if issuer.rstrip("/").startswith(_SHARED_ISSUERS) and not re.search(r"\b(assertion|attribute|google)\b", condition):
        raise invalid("The attribute condition must reference one of the provider's claims.", field_path="attributeCondition")

"""IAM policies of any resource: kept whole, changed by read-modify-write with an etag."""

from __future__ import annotations

import base64
import json
import re
import secrets
from typing import Any

from localcloud.api import ApiError, invalid
from localcloud.cloud import Cloud
from localcloud.database import register_schema

register_schema("CREATE TABLE IF NOT EXISTS policies (resource TEXT PRIMARY KEY, policy TEXT NOT NULL) WITHOUT ROWID;")

# etag of a resource nobody has set a policy on: google.protobuf.Empty's, as the services answer it
_NO_ETAG = "ACAB"
_ROLE = re.compile(r"(roles/[A-Za-z0-9_.]+|(projects|organizations)/[^/]+/roles/[A-Za-z0-9_.]+)")
_MEMBER = re.compile(
    r"allUsers|allAuthenticatedUsers|(user|serviceAccount|group|domain|projectOwner|projectEditor|projectViewer|principal|principalSet"
    r"|deleted:[a-zA-Z]+):\S+"
)


def get_policy(cloud: Cloud, resource: str) -> dict[str, Any]:
    """`{"version", "etag", "bindings"?}` of a resource; an empty one when none was set."""
    row = cloud.db.one("SELECT policy FROM policies WHERE resource = ?", (resource,))
    policy: dict[str, Any] = json.loads(row["policy"]) if row else {"version": 1, "etag": _NO_ETAG}
    return policy


def set_policy(cloud: Cloud, resource: str, policy: dict[str, Any]) -> dict[str, Any]:
    """Replaces the policy and returns it with its new etag.

    Raises ApiError: 409 when the etag given is not the current one, 400 for a role, a member or an account that cannot be.
    """
    with cloud.db.transaction():
        current = get_policy(cloud, resource)
        given = policy.get("etag")
        if given and _bytes(given) != _bytes(current["etag"]):
            raise ApiError(
                409,
                "ABORTED",
                "There were concurrent policy changes. Please retry the whole read-modify-write with exponential backoff. "
                f"The request's ETag '{given}' did not match the current policy's ETag '{current['etag']}'.",
                reason="conflict",
            )
        known = {member for binding in current.get("bindings", []) for member in binding.get("members", [])}
        bindings = [binding for binding in policy.get("bindings", []) if binding.get("members")]
        for binding in bindings:
            _check_binding(cloud, binding, known)
        conditional = any("condition" in binding for binding in bindings)
        if conditional and policy.get("version", 0) != 3:
            raise invalid("A policy with conditions must have version 3.")
        stored = {key: value for key, value in policy.items() if key in ("bindings", "auditConfigs")}
        stored["version"] = 3 if conditional else 1
        if "bindings" in stored:
            stored["bindings"] = bindings
        return _write(cloud, resource, stored)


def delete_policy(cloud: Cloud, resource: str) -> None:
    """Forgets the policy of a resource that is deleted."""
    cloud.db.execute("DELETE FROM policies WHERE resource = ?", (resource,))


def delete_account(cloud: Cloud, email: str, unique_id: str) -> None:
    """Makes a deleted service account a member that is nobody in every policy: another one with its address is not it."""
    member = json.dumps(f"serviceAccount:{email}")
    deleted = json.dumps(f"deleted:serviceAccount:{email}?uid={unique_id}")
    for row in cloud.db.query("SELECT * FROM policies WHERE instr(policy, ?)", (member,)):
        _write(cloud, row["resource"], json.loads(row["policy"].replace(member, deleted)))


def _write(cloud: Cloud, resource: str, policy: dict[str, Any]) -> dict[str, Any]:
    """Keeps a policy under a new etag."""
    policy = {**policy, "etag": base64.b64encode(secrets.token_bytes(9)).decode()}
    cloud.db.execute("INSERT OR REPLACE INTO policies VALUES (?, ?)", (resource, json.dumps(policy)))
    return policy


def _check_binding(cloud: Cloud, binding: dict[str, Any], known: set[str]) -> None:
    role = binding.get("role", "")
    if not _ROLE.fullmatch(role):
        raise invalid(f"Role ({role}) does not exist in the resource's hierarchy.")
    for member in binding["members"]:
        if not _MEMBER.fullmatch(member):
            raise invalid(f"The member {member} is of an unknown type. Please set a valid type prefix for the member.")
        kind, _, email = member.partition(":")
        ours = kind == "serviceAccount" and email.endswith(f"@{cloud.project}.iam.gserviceaccount.com")
        if ours and member not in known and not cloud.db.one("SELECT 1 FROM service_accounts WHERE email = ?", (email,)):
            raise invalid(f"Service account {email} does not exist.")


def _bytes(etag: str) -> bytes | str:
    """Clients send the bytes back in the URL-safe alphabet or without padding."""
    plain = etag.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4))
    except ValueError:
        return etag

"""IAM: service accounts and the policies on them."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
from typing import Any

from localcloud.api import ApiError, Call, invalid, method, not_found
from localcloud.cloud import Cloud
from localcloud.database import register_schema
from localcloud.policies import delete_account, delete_policy, get_policy, set_policy
from localcloud.services.projects import check_project

register_schema(
    """
    CREATE TABLE IF NOT EXISTS service_accounts (
        email TEXT PRIMARY KEY, unique_id TEXT NOT NULL, settings TEXT NOT NULL
    ) WITHOUT ROWID;
    """
)

_ACCOUNT_ID = re.compile(r"[a-z]([-a-z0-9]{4,28}[a-z0-9])")
SETTINGS = ("displayName", "description")


@method("iam.projects.serviceAccounts.create")
def create(call: Call) -> dict[str, Any]:
    check_project(call.cloud, call.params["name"])
    account_id = call.body.get("accountId", "")
    if not _ACCOUNT_ID.fullmatch(account_id):
        raise invalid(
            f"Invalid service account ID {account_id!r}: it must have 6 to 30 lowercase letters, digits and hyphens, begin with"
            " a letter and not end with a hyphen.",
            field_path="accountId",
        )
    email = f"{account_id}@{call.cloud.project}.iam.gserviceaccount.com"
    settings = {key: value for key, value in call.body.get("serviceAccount", {}).items() if key in SETTINGS}
    with call.cloud.db.transaction():
        if _row(call.cloud, email) is not None:
            message = f"Service account {account_id} already exists within project projects/{call.cloud.project}."
            raise ApiError(409, "ALREADY_EXISTS", message)
        unique_id = str(10**20 + secrets.randbelow(10**20))
        call.cloud.db.execute("INSERT INTO service_accounts VALUES (?, ?, ?)", (email, unique_id, json.dumps(settings)))
    return _account(call.cloud, email)


@method("iam.projects.serviceAccounts.get")
def get(call: Call) -> dict[str, Any]:
    return _account(call.cloud, _email(call, call.params["name"]))


@method("iam.projects.serviceAccounts.list")
def list_(call: Call) -> dict[str, Any]:
    check_project(call.cloud, call.params["name"])
    limit = max(1, min(call.params.get("pageSize") or 100, 100))
    rows = call.cloud.db.query(
        "SELECT email FROM service_accounts WHERE email > ? ORDER BY email LIMIT ?",
        (call.params.get("pageToken", ""), limit + 1),
    )
    answer: dict[str, Any] = {"accounts": [_account(call.cloud, row["email"]) for row in rows[:limit]]}
    if len(rows) > limit:
        answer["nextPageToken"] = rows[limit - 1]["email"]
    return answer


@method("iam.projects.serviceAccounts.patch")
def patch(call: Call) -> dict[str, Any]:
    email = _email(call, call.params["name"])
    given = call.body.get("serviceAccount", {})
    names = re.sub(r"_([a-z])", lambda match: match[1].upper(), call.body.get("updateMask", "")).split(",")
    return _change(call.cloud, email, {name: given.get(name, "") for name in names if name in SETTINGS})


@method("iam.projects.serviceAccounts.update")
def update(call: Call) -> dict[str, Any]:
    email = _email(call, call.params["name"])
    return _change(call.cloud, email, {name: call.body[name] for name in SETTINGS if name in call.body})


@method("iam.projects.serviceAccounts.delete")
def delete(call: Call) -> dict[str, Any]:
    email = _email(call, call.params["name"])
    with call.cloud.db.transaction():
        delete_account(call.cloud, email, _row(call.cloud, email)["unique_id"])
        call.cloud.db.execute("DELETE FROM service_accounts WHERE email = ?", (email,))
        delete_policy(call.cloud, _resource(call.cloud, email))
    return {}


@method("iam.projects.serviceAccounts.enable")
def enable(call: Call) -> dict[str, Any]:
    _change(call.cloud, _email(call, call.params["name"]), {"disabled": False})
    return {}


@method("iam.projects.serviceAccounts.disable")
def disable(call: Call) -> dict[str, Any]:
    _change(call.cloud, _email(call, call.params["name"]), {"disabled": True})
    return {}


@method("iam.projects.serviceAccounts.getIamPolicy")
def get_iam_policy(call: Call) -> dict[str, Any]:
    return get_policy(call.cloud, _resource(call.cloud, _email(call, call.params["resource"])))


@method("iam.projects.serviceAccounts.setIamPolicy")
def set_iam_policy(call: Call) -> dict[str, Any]:
    return set_policy(call.cloud, _resource(call.cloud, _email(call, call.params["resource"])), call.body.get("policy", {}))


@method("iam.projects.serviceAccounts.testIamPermissions")
def test_iam_permissions(call: Call) -> dict[str, Any]:
    _email(call, call.params["resource"])
    return {"permissions": call.body.get("permissions", [])}


def _row(cloud: Cloud, email: str) -> Any:
    return cloud.db.one("SELECT * FROM service_accounts WHERE email = ?", (email,))


def _email(call: Call, name: str) -> str:
    """The e-mail address of `projects/P/serviceAccounts/{email or unique id}` (P may be `-`). Raises ApiError 404."""
    _, project, _, account = name.split("/", 3)
    if project != "-":
        check_project(call.cloud, project)
    row = call.cloud.db.one("SELECT email FROM service_accounts WHERE email = ? OR unique_id = ?", (account, account))
    if row is None:
        raise not_found(f"Unknown service account: {account}")
    return str(row["email"])


def _resource(cloud: Cloud, email: str) -> str:
    return f"projects/{cloud.project}/serviceAccounts/{email}"


def _change(cloud: Cloud, email: str, given: dict[str, Any]) -> dict[str, Any]:
    with cloud.db.transaction():
        settings = {**json.loads(_row(cloud, email)["settings"]), **given}
        cloud.db.execute("UPDATE service_accounts SET settings = ? WHERE email = ?", (json.dumps(settings), email))
    return _account(cloud, email)


def _account(cloud: Cloud, email: str) -> dict[str, Any]:
    row = _row(cloud, email)
    settings = {key: value for key, value in json.loads(row["settings"]).items() if value}
    return {
        "name": _resource(cloud, email),
        "projectId": cloud.project,
        "uniqueId": row["unique_id"],
        "oauth2ClientId": row["unique_id"],
        "email": email,
        "etag": base64.b64encode(hashlib.sha256(row["settings"].encode()).digest()[:9]).decode(),
        **settings,
    }

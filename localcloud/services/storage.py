"""Cloud Storage, buckets: every setting is kept and given back, and a bucket is a folder below `buckets/`."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from starlette.responses import Response

from localcloud.api import ApiError, Call, invalid, method
from localcloud.cloud import Cloud, rfc3339
from localcloud.database import register_schema
from localcloud.policies import delete_policy, get_policy, set_policy
from localcloud.regions import BUCKET_DUAL_REGIONS, BUCKET_MULTI_REGIONS, BUCKET_REGIONS
from localcloud.services.bucket_validation import violations
from localcloud.services.object_messages import merge, not_modified, refuse_unoffered, storage_class
from localcloud.services.objects import store
from localcloud.services.projects import check_project
from localcloud.services.retention import bucket_settings, check_policy_change
from localcloud.storage.names import bucket_fault

register_schema(
    """
    CREATE TABLE IF NOT EXISTS buckets (
        name TEXT PRIMARY KEY, metageneration INTEGER NOT NULL, created TEXT NOT NULL, updated TEXT NOT NULL,
        settings TEXT NOT NULL
    ) WITHOUT ROWID;
    """
)

# what a client may set; the rest of a bucket the service makes
SETTINGS = frozenset(
    {
        "autoclass",
        "billing",
        "cors",
        "customPlacementConfig",
        "defaultEventBasedHold",
        "encryption",
        "hierarchicalNamespace",
        "iamConfiguration",
        "ipFilter",
        "labels",
        "lifecycle",
        "location",
        "logging",
        "retentionPolicy",
        "rpo",
        "softDeletePolicy",
        "storageClass",
        "versioning",
        "website",
    }
)
LOCK_DAYS = 90  # after these, uniform access cannot be switched off again


@method("storage.buckets.insert")
def insert(call: Call) -> dict[str, Any]:
    check_project(call.cloud, call.params["project"])
    name = call.body.get("name", "")
    if fault := bucket_fault(name):
        raise invalid(f"Invalid bucket name: '{name}': {fault}.")
    if (call.body.get("hierarchicalNamespace") or {}).get("enabled"):
        raise ApiError(501, message="hierarchicalNamespace is not offered by the local cloud.")
    now = rfc3339(call.cloud.now())
    given = _settings(call.body)
    if call.params.get("enableObjectRetention"):
        given["objectRetention"] = {"mode": "Enabled"}
    settings = _completed(call.cloud, {}, given)
    with call.cloud.db.transaction():
        if _row(call.cloud, name) is not None:
            message = "Your previous request to create the named bucket succeeded and you already own it."
            raise ApiError(409, "ALREADY_EXISTS", message, reason="conflict")
        call.cloud.db.execute("INSERT INTO buckets VALUES (?, 1, ?, ?, ?)", (name, now, now, json.dumps(settings)))
        store(call.cloud).create_bucket_folder(name)
    return _bucket(call.cloud, name)


@method("storage.buckets.get")
async def get(call: Call) -> dict[str, Any] | Response:
    """In the event loop: it is one look into the database."""
    refuse_unoffered(call)
    found = _bucket(call.cloud, call.params["bucket"])
    return not_modified(call, found["etag"], Metageneration=found["metageneration"]) or found


@method("storage.buckets.list")
def list_(call: Call) -> dict[str, Any]:
    refuse_unoffered(call)
    check_project(call.cloud, call.params["project"])
    limit = max(1, min(call.params.get("maxResults", 1000), 1000))
    rows = call.cloud.db.query(
        "SELECT name FROM buckets WHERE substr(name, 1, ?) = ? AND name > ? ORDER BY name LIMIT ?",
        (len(call.params.get("prefix", "")), call.params.get("prefix", ""), call.params.get("pageToken", ""), limit + 1),
    )
    answer: dict[str, Any] = {"kind": "storage#buckets", "items": [_bucket(call.cloud, row["name"]) for row in rows[:limit]]}
    if len(rows) > limit:
        answer["nextPageToken"] = rows[limit - 1]["name"]
    return answer


@method("storage.buckets.patch")
def patch(call: Call) -> dict[str, Any]:
    return _change(call, lambda settings, given: merge(settings, given))


@method("storage.buckets.update")
def update(call: Call) -> dict[str, Any]:
    def replaced(settings: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
        fixed: dict[str, Any] = {
            key: settings[key] for key in ("location", "storageClass", "objectRetention") if key in settings
        }
        return merge(fixed, given)

    return _change(call, replaced)


@method("storage.buckets.delete")
def delete(call: Call) -> Response:
    name = call.params["bucket"]
    with call.cloud.db.transaction():
        _check_metageneration(call, name)
        if not store(call.cloud).delete_bucket_folder(name):
            raise ApiError(409, "FAILED_PRECONDITION", "The bucket you tried to delete is not empty.", reason="conflict")
        call.cloud.db.execute("DELETE FROM buckets WHERE name = ?", (name,))
        delete_policy(call.cloud, _resource(name))
    return Response(status_code=204)


@method("storage.buckets.getIamPolicy")
def get_iam_policy(call: Call) -> dict[str, Any]:
    bucket_settings(call.cloud, call.params["bucket"])
    return _policy(call, get_policy(call.cloud, _resource(call.params["bucket"])))


@method("storage.buckets.setIamPolicy")
def set_iam_policy(call: Call) -> dict[str, Any]:
    bucket_settings(call.cloud, call.params["bucket"])
    return _policy(call, set_policy(call.cloud, _resource(call.params["bucket"]), call.body))


@method("storage.buckets.testIamPermissions")
def test_iam_permissions(call: Call) -> dict[str, Any]:
    bucket_settings(call.cloud, call.params["bucket"])
    return {"kind": "storage#testIamPermissionsResponse", "permissions": call.params["permissions"]}


@method("storage.buckets.getStorageLayout")
def get_storage_layout(call: Call) -> dict[str, Any]:
    bucket = _bucket(call.cloud, call.params["bucket"])
    return {
        "kind": "storage#storageLayout",
        "bucket": bucket["name"],
        "location": bucket["location"],
        "locationType": bucket["locationType"],
        "hierarchicalNamespace": {"enabled": False},
    }


@method("storage.buckets.lockRetentionPolicy")
def lock_retention_policy(call: Call) -> dict[str, Any]:
    def locked(settings: dict[str, Any], _: Mapping[str, Any]) -> dict[str, Any]:
        if not settings.get("retentionPolicy"):
            raise invalid("The bucket has no retention policy to lock.")
        return settings

    return _change(call, locked, {"retentionPolicy": {"isLocked": True}})


@method("storage.anywhereCaches.list")
def list_anywhere_caches(call: Call) -> dict[str, Any]:
    bucket_settings(call.cloud, call.params["bucket"])
    return {"kind": "storage#anywhereCaches", "items": []}


@method("storage.managedFolders.list")
def list_managed_folders(call: Call) -> dict[str, Any]:
    bucket_settings(call.cloud, call.params["bucket"])
    return {"kind": "storage#managedFolders", "items": []}


@method("storage.folders.list")
def list_folders(call: Call) -> dict[str, Any]:
    bucket_settings(call.cloud, call.params["bucket"])
    return {"kind": "storage#folders", "items": []}


@method("storage.notifications.list")
def list_notifications(call: Call) -> dict[str, Any]:
    bucket_settings(call.cloud, call.params["bucket"])
    return {"kind": "storage#notifications", "items": []}


@method("storage.projects.serviceAccount.get")
def get_service_account(call: Call) -> dict[str, Any]:
    check_project(call.cloud, call.params["projectId"])
    email = f"service-{call.cloud.project_number}@gs-project-accounts.iam.gserviceaccount.com"
    return {"kind": "storage#serviceAccount", "email_address": email}


def _change(call: Call, change: Any, besides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Sets what `change` makes of the settings and of those given, completed, and then `besides`."""
    name = call.params["bucket"]
    with call.cloud.db.transaction():
        _check_metageneration(call, name)
        row = _row(call.cloud, name)
        assert row is not None
        old = json.loads(row["settings"])
        given = _settings(call.body)
        if given.get("location") and given["location"].upper() != old["location"]:
            raise invalid("The location of a bucket cannot be changed.")
        settings = merge(_completed(call.cloud, old, change(old, given)), besides or {})
        check_policy_change(old, settings)
        call.cloud.db.execute(
            "UPDATE buckets SET metageneration = metageneration + 1, updated = ?, settings = ? WHERE name = ?",
            (rfc3339(call.cloud.now()), json.dumps(settings), name),
        )
    return _bucket(call.cloud, name)


def _settings(body: Mapping[str, Any]) -> dict[str, Any]:
    given = {key: value for key, value in body.items() if key in SETTINGS}
    if policy := given.get("retentionPolicy"):
        given["retentionPolicy"] = {"retentionPeriod": policy.get("retentionPeriod")}
        if int(policy.get("retentionPeriod") or 0) <= 0:
            raise invalid("retentionPolicy.retentionPeriod must be more than 0 seconds; null removes the policy.")
    return given


def _completed(cloud: Cloud, old: Mapping[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """What the service adds to the settings given."""
    settings = merge({}, settings)
    settings["location"] = settings.get("location", "US").upper()
    if settings["location"] not in BUCKET_REGIONS | BUCKET_DUAL_REGIONS | BUCKET_MULTI_REGIONS:
        raise invalid(f"The specified location constraint is not valid: {settings['location']}.", field_path="location")
    settings["storageClass"] = storage_class(settings.get("storageClass", "STANDARD"))
    for field, message in violations(settings):
        raise invalid(message, field_path=field)
    iam = settings.setdefault("iamConfiguration", {})
    iam.setdefault("publicAccessPrevention", "inherited")
    uniform = iam.get("uniformBucketLevelAccess", iam.get("bucketPolicyOnly", {}))
    enabled = bool(uniform.get("enabled"))
    access = {"enabled": enabled}
    if enabled:
        before = old.get("iamConfiguration", {}).get("uniformBucketLevelAccess", {})
        access["lockedTime"] = before.get("lockedTime", rfc3339(cloud.now() + timedelta(days=LOCK_DAYS)))
    iam["uniformBucketLevelAccess"] = access
    iam["bucketPolicyOnly"] = dict(access)
    soft = settings.setdefault("softDeletePolicy", {})
    soft.setdefault("retentionDurationSeconds", "604800")
    if soft["retentionDurationSeconds"] == "0":
        soft.pop("effectiveTime", None)
    elif soft["retentionDurationSeconds"] != old.get("softDeletePolicy", {}).get("retentionDurationSeconds"):
        soft["effectiveTime"] = rfc3339(cloud.now())
    if policy := settings.get("retentionPolicy"):
        before = old.get("retentionPolicy", {})
        policy["effectiveTime"] = before.get("effectiveTime", rfc3339(cloud.now()))
        # locked by lockRetentionPolicy alone, and for ever
        settings["retentionPolicy"] = {**policy, "isLocked": True} if before.get("isLocked") else policy
    return {key: value for key, value in settings.items() if value not in ({}, {"rule": []})}


_ROW = "SELECT * FROM buckets WHERE name = ?"


def _row(cloud: Cloud, name: str) -> Any:
    return cloud.db.look(dict, _ROW, name)


def _bucket(cloud: Cloud, name: str) -> dict[str, Any]:
    """The Bucket message. Raises ApiError 404."""
    described = cloud.db.look(_described, _ROW, name)
    if described is None:
        raise ApiError(404, "NOT_FOUND", "The specified bucket does not exist.")
    return {**described, "projectNumber": cloud.project_number, "selfLink": f"{cloud.base_url}/storage/v1/b/{name}"}


def _described(row: sqlite3.Row) -> dict[str, Any]:
    """What of the message is in the database."""
    settings = json.loads(row["settings"])
    return {
        "kind": "storage#bucket",
        "id": row["name"],
        "name": row["name"],
        "generation": str(int(datetime.fromisoformat(row["created"].replace("Z", "+00:00")).timestamp() * 1_000_000)),
        "metageneration": str(row["metageneration"]),
        "etag": base64.b64encode(str(row["metageneration"]).encode()).decode(),
        "timeCreated": row["created"],
        "updated": row["updated"],
        "locationType": _location_type(settings),
        **settings,
    }


def _location_type(settings: Mapping[str, Any]) -> str:
    if settings["location"] in BUCKET_DUAL_REGIONS or "customPlacementConfig" in settings:
        return "dual-region"
    return "multi-region" if settings["location"] in BUCKET_MULTI_REGIONS else "region"


def _resource(bucket: str) -> str:
    return f"storage/buckets/{bucket}"


def _policy(call: Call, policy: dict[str, Any]) -> dict[str, Any]:
    resource = f"projects/_/buckets/{call.params['bucket']}"
    return {"kind": "storage#policy", "resourceId": resource, "bindings": [], **policy}


def _check_metageneration(call: Call, name: str) -> Any:
    """The bucket's row. Raises ApiError 404, 412."""
    row = _row(call.cloud, name)
    if row is None:
        raise ApiError(404, "NOT_FOUND", "The specified bucket does not exist.")
    wanted, unwanted = call.params.get("ifMetagenerationMatch"), call.params.get("ifMetagenerationNotMatch")
    now = str(row["metageneration"])
    if (wanted is not None and wanted != now) or (unwanted is not None and unwanted == now):
        raise ApiError(412, message="At least one of the pre-conditions you specified did not hold.")
    return row

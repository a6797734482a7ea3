"""What keeps an object from being deleted or overwritten: holds, the bucket's retention policy, the object's own retention.

https://cloud.google.com/storage/docs/bucket-lock, …/object-holds and …/object-lock.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from localcloud.api import ApiError, invalid
from localcloud.cloud import Cloud, rfc3339
from localcloud.moments import micros_of
from localcloud.storage.stored import StoredObject


def bucket_settings(cloud: Cloud, name: str) -> dict[str, Any]:
    """A bucket's settings. Raises ApiError (404) when there is no such bucket."""
    text = cloud.db.look(_settings, "SELECT settings FROM buckets WHERE name = ?", name)
    if text is None:
        raise ApiError(404, "NOT_FOUND", "The specified bucket does not exist.")
    settings: dict[str, Any] = json.loads(text)
    return settings


def _settings(row: Any) -> str:
    return str(row["settings"])


def has_versioning(settings: Mapping[str, Any]) -> bool:
    """Whether a bucket with these settings keeps what is overwritten or deleted as noncurrent generations."""
    return bool((settings.get("versioning") or {}).get("enabled"))


def expiration(settings: Mapping[str, Any], found: StoredObject) -> datetime | None:
    """Until when the bucket's retention policy keeps an object, if it does; an event-based hold leaves that open."""
    policy = settings.get("retentionPolicy")
    if not policy or found.metadata.get("eventBasedHold"):
        return None
    since = datetime.fromtimestamp(found.created / 1_000_000, timezone.utc)
    return since + timedelta(seconds=int(policy["retentionPeriod"]))


def check_removable(cloud: Cloud, settings: Mapping[str, Any], found: StoredObject) -> None:
    """Raises ApiError 403 when the object must stay as it is for now."""
    what = f"Object '{found.bucket}/{found.name}'"
    for hold, name in (("temporaryHold", "Temporary hold"), ("eventBasedHold", "Event-Based hold")):
        if found.metadata.get(hold):
            message = f"{what} is under active {name} and cannot be deleted, overwritten or archived until hold is removed."
            raise ApiError(403, message=message, reason="objectUnderActiveHold")
    ends = [expiration(settings, found), _own(found.metadata)]
    until = max((end for end in ends if end is not None), default=None)
    if until is not None and until > cloud.now():
        message = (
            f"{what} is subject to bucket's retention policy or object retention and cannot be deleted or overwritten until "
        )
        raise ApiError(403, message=message + rfc3339(until), reason="retentionPolicyNotMet")


def check_own_retention(
    cloud: Cloud, settings: Mapping[str, Any], before: Mapping[str, Any], after: Mapping[str, Any], *, override: bool
) -> None:
    """Raises ApiError when an object's own retention may not become what `after` says: 400, or 403 if it would be less."""
    old, new = before.get("retention"), after.get("retention")
    if old == new:
        return
    if settings.get("objectRetention", {}).get("mode") != "Enabled":
        raise invalid("The bucket must have object retention enabled (enableObjectRetention when it is made).")
    if new and (new.get("mode") not in ("Locked", "Unlocked") or not new.get("retainUntilTime")):
        raise invalid("retention must have a mode (Locked or Unlocked) and a retainUntilTime.")
    try:
        left, wanted = _own(before), _own(after)
    except ValueError as error:
        raise invalid(f"retention.retainUntilTime: {error}.", field_path="retention.retainUntilTime") from error
    if not old or left is None or left <= cloud.now():
        return
    locked = old["mode"] == "Locked"
    less = not new or wanted is None or wanted < left or (locked and new["mode"] != "Locked")
    if less and (locked or not override):
        raise ApiError(403, message="The object's retention cannot be reduced, removed or unlocked.", reason="forbidden")


def check_policy_change(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raises ApiError 403 when a locked retention policy of a bucket would become shorter or end."""
    before, after = old.get("retentionPolicy") or {}, new.get("retentionPolicy") or {}
    if before.get("isLocked") and int(after.get("retentionPeriod", 0)) < int(before["retentionPeriod"]):
        raise ApiError(403, message="Cannot reduce or remove a locked retention policy.", reason="forbidden")


def _own(metadata: Mapping[str, Any]) -> datetime | None:
    until = (metadata.get("retention") or {}).get("retainUntilTime")
    return datetime.fromtimestamp(micros_of(until) / 1_000_000, timezone.utc) if until else None

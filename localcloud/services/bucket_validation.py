"""What Cloud Storage refuses in a bucket's settings beyond what the discovery document says. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from localcloud.services.object_messages import storage_class
from localcloud.services.vertex_validation import Violation, label_faults

DAY = 24 * 3600
SOFT_DELETE = range(7 * DAY, 90 * DAY + 1)  # https://cloud.google.com/storage/docs/soft-delete
_ACTIONS = ("Delete", "SetStorageClass", "AbortIncompleteMultipartUpload")
_COUNTS = ("age", "daysSinceCustomTime", "daysSinceNoncurrentTime", "numNewerVersions")


def violations(settings: Mapping[str, Any]) -> Iterator[Violation]:
    """The wrong fields of a bucket's settings and what is wrong with them. Raises ApiError 400 for a storage class."""
    for message in label_faults(settings.get("labels") or {}):
        yield "labels", message
    kept = int((settings.get("softDeletePolicy") or {}).get("retentionDurationSeconds") or 0)
    if kept and kept not in SOFT_DELETE:
        yield (
            "softDeletePolicy.retentionDurationSeconds",
            f"The soft delete retention duration must be 0 or between {SOFT_DELETE[0]} (7 days) and {SOFT_DELETE[-1]} (90 days)"
            f" seconds, but is {kept}.",
        )
    for index, rule in enumerate((settings.get("lifecycle") or {}).get("rule") or []):
        yield from _rule(f"lifecycle.rule[{index}]", rule)


def _rule(where: str, rule: Mapping[str, Any]) -> Iterator[Violation]:
    action, condition = rule.get("action") or {}, rule.get("condition") or {}
    kind = action.get("type")
    if kind not in _ACTIONS:
        yield f"{where}.action.type", f"A lifecycle rule's action must be one of {', '.join(_ACTIONS)}, but is {kind!r}."
    elif kind == "SetStorageClass":
        storage_class(action.get("storageClass", ""))
    for name in _COUNTS:
        if int(condition.get(name) or 0) < 0:
            yield f"{where}.condition.{name}", f"It must not be negative, but is {condition[name]}."

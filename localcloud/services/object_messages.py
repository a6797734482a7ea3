"""Cloud Storage, objects: what a client may write of one, what it reads, and what a write must find."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from localcloud.api import ApiError, invalid
from localcloud.cloud import Cloud, rfc3339
from localcloud.services.retention import check_removable, expiration
from localcloud.storage.objects import Check
from localcloud.storage.stored import StoredObject

# what a client may set of an object
FIELDS = frozenset(
    {
        "cacheControl",
        "contentDisposition",
        "contentEncoding",
        "contentLanguage",
        "contentType",
        "contexts",
        "customTime",
        "eventBasedHold",
        "metadata",
        "retention",
        "storageClass",
        "temporaryHold",
    }
)
CONDITIONS = frozenset(f"if{what}{how}" for what in ("Generation", "Metageneration") for how in ("Match", "NotMatch"))
HEADERS = ("cacheControl", "contentDisposition", "contentEncoding", "contentLanguage", "contentType")  # of a download


def merge(old: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """`old` with what `given` sets; null removes, objects are merged in turn (RFC 7396)."""
    merged = dict(old)
    for key, value in given.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            before = merged.get(key)
            merged[key] = merge(before if isinstance(before, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged


def writable(body: Mapping[str, Any]) -> dict[str, Any]:
    """What a client's Object message sets."""
    for name in HEADERS:
        if any(character < " " or character == "\x7f" for character in str(body.get(name) or "")):
            raise invalid(f"{name} is sent as an HTTP header and must not contain control characters.")
    return {key: value for key, value in body.items() if key in FIELDS}


def preconditions(params: Mapping[str, Any], prefix: str = "if") -> Check:
    """A check of `ifGenerationMatch` and its like (generation 0: there is no such object); it refuses with ApiError 412."""

    def check(found: StoredObject | None) -> None:
        for what in ("Generation", "Metageneration"):
            now = "0" if found is None else str(found.generation if what == "Generation" else found.metageneration)
            wanted, unwanted = params.get(f"{prefix}{what}Match"), params.get(f"{prefix}{what}NotMatch")
            if wanted not in (None, now) or unwanted == now:
                raise ApiError(412, message="At least one of the pre-conditions you specified did not hold.")

    return check


def replaceable(cloud: Cloud, settings: Mapping[str, Any], params: Mapping[str, Any]) -> Check:
    """A check of a write's preconditions, and that nothing keeps the object that is there: ApiError 412, 403."""

    def check(found: StoredObject | None) -> None:
        preconditions(params)(found)
        if found is not None:
            check_removable(cloud, settings, found)

    return check


def resource(cloud: Cloud, found: StoredObject, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The Object message; `settings` are its bucket's."""
    path = f"b/{found.bucket}/o/{_quoted(found.name)}"
    answer = {
        **_described(found),
        "selfLink": f"{cloud.base_url}/storage/v1/{path}",
        "mediaLink": f"{cloud.base_url}/download/storage/v1/{path}?generation={found.generation}&alt=media",
    }
    if until := expiration(settings, found):
        answer["retentionExpirationTime"] = rfc3339(until)
    return answer


@lru_cache(2048)
def _described(found: StoredObject) -> dict[str, Any]:
    """What of the message depends on the object alone."""
    created = _time(found.created)
    answer = {
        "kind": "storage#object",
        "id": f"{found.bucket}/{found.name}/{found.generation}",
        "name": found.name,
        "bucket": found.bucket,
        "generation": str(found.generation),
        "metageneration": str(found.metageneration),
        "contentType": "application/octet-stream",
        "storageClass": "STANDARD",
        "size": str(found.size),
        "etag": etag(found),
        "timeCreated": created,
        "timeFinalized": created,
        "timeStorageClassUpdated": created,
        "updated": _time(found.updated),
    }
    if found.md5:
        answer["md5Hash"] = found.md5
    if found.crc32c:
        answer["crc32c"] = found.crc32c
    if found.deleted is not None:
        answer["timeDeleted"] = _time(found.deleted)
    return answer | found.metadata


def etag(found: StoredObject) -> str:
    return base64.b64encode(f"{found.generation}/{found.metageneration}".encode()).decode()


def no_object(bucket: str, name: str) -> ApiError:
    return ApiError(404, "NOT_FOUND", f"No such object: {bucket}/{name}")


def asked_generation(params: Mapping[str, Any], name: str = "generation") -> int | None:
    """The generation that a call names, if it names one."""
    given = params.get(name)
    return None if given is None else int(given)


@lru_cache(2048)
def _quoted(name: str) -> str:
    return quote(name, safe="")


@lru_cache(2048)
def _time(micros: int) -> str:
    return rfc3339(datetime.fromtimestamp(micros / 1_000_000, timezone.utc))

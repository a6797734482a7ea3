"""Cloud Storage, objects: what a client may write of one, what it reads, and what a write must find."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from starlette.responses import Response

from localcloud import moments
from localcloud.api import ApiError, Call, invalid
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
STORAGE_CLASSES = frozenset(
    {"STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE", "MULTI_REGIONAL", "REGIONAL", "DURABLE_REDUCED_AVAILABILITY"}
)
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
    given = {key: value for key, value in body.items() if key in FIELDS}
    if kind := given.get("storageClass"):
        given["storageClass"] = storage_class(kind)
    return given


def storage_class(name: str) -> str:
    """The class of a bucket or an object, in capitals. Raises ApiError 400 when there is none of this name."""
    if name.upper() not in STORAGE_CLASSES:
        raise invalid(f"Invalid storage class: {name}.", field_path="storageClass")
    return name.upper()


def not_modified(call: Call, etag: str, **now: str) -> Response | None:
    """304 to a reader who asked for another version than the one that is there, by parameters (`now`: its Generation and
    Metageneration) or by ETags in the headers; None to any other. Raises ApiError 412 to one who asked for a certain version.
    """
    wanted, unwanted = (_etags(call.request.headers.get(name)) for name in ("if-match", "if-none-match"))
    if unwanted & {etag, "*"} or any(call.params.get(f"if{what}NotMatch") == value for what, value in now.items()):
        return Response(status_code=304)
    if (wanted and not wanted & {etag, "*"}) or any(
        call.params.get(f"if{what}Match", value) != value for what, value in now.items()
    ):
        raise _unmet()
    return None


def refuse_unoffered(call: Call) -> None:
    """Raises ApiError 501 to who asks for what was deleted, or for objects by their contexts: any answer would mislead."""
    for name in ("softDeleted", "filter"):
        if call.params.get(name):
            raise ApiError(501, message=f"{call.method.id} with {name} is not offered by the local cloud.")


def _etags(header: str | None) -> set[str]:
    return {each.strip().removeprefix("W/").strip('"') for each in header.split(",")} if header else set()


def _unmet() -> ApiError:
    return ApiError(412, message="At least one of the pre-conditions you specified did not hold.")


def preconditions(params: Mapping[str, Any], prefix: str = "if") -> Check:
    """A check of `ifGenerationMatch` and its like (generation 0: there is no such object); it refuses with ApiError 412."""

    def check(found: StoredObject | None) -> None:
        for what in ("Generation", "Metageneration"):
            now = "0" if found is None else str(found.generation if what == "Generation" else found.metageneration)
            wanted, unwanted = params.get(f"{prefix}{what}Match"), params.get(f"{prefix}{what}NotMatch")
            if wanted not in (None, now) or unwanted == now:
                raise _unmet()

    return check


def replaceable(cloud: Cloud, settings: Mapping[str, Any], params: Mapping[str, Any]) -> Check:
    """A check of a write's preconditions, and that nothing keeps the object that is there: ApiError 412, 403."""

    def check(found: StoredObject | None) -> None:
        preconditions(params)(found)
        if found is not None:
            check_removable(cloud, settings, found)

    return check


def check_acl(settings: Mapping[str, Any], params: Mapping[str, Any]) -> None:
    """Raises ApiError 400 when a write gives a list of who may read, in a bucket (of these settings) that has none."""
    uniform = settings["iamConfiguration"]["uniformBucketLevelAccess"]["enabled"]
    if uniform and params.keys() & {"predefinedAcl", "destinationPredefinedAcl"}:
        raise invalid("Cannot insert legacy ACL for an object when uniform bucket-level access is enabled.")


def resource(cloud: Cloud, found: StoredObject, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The Object message; `settings` are its bucket's."""
    path = f"b/{found.bucket}/o/{_quoted(found.name)}"
    answer = {
        "storageClass": settings["storageClass"],  # of a file that a job has written; what the API writes has its own
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


def asked_generation(params: Mapping[str, Any]) -> int | None:
    """The generation that a call names, if it names one."""
    given = params.get("generation")
    return None if given is None else int(given)


@lru_cache(2048)
def _quoted(name: str) -> str:
    return quote(name, safe="")


@lru_cache(2048)
def _time(micros: int) -> str:
    return moments.rfc3339(micros)

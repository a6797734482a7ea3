"""Cloud Storage, objects: metadata, listing, download, copy. Uploads are in `uploads.py`."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, BinaryIO
from urllib.parse import quote
from weakref import WeakKeyDictionary

from starlette.responses import Response

from localcloud.api import ApiError, Call, invalid, method
from localcloud.cloud import Cloud, rfc3339
from localcloud.services.downloads import download
from localcloud.storage.digests import CHUNK, Digests
from localcloud.storage.listing import list_page
from localcloud.storage.objects import Check, NameRefused, ObjectStore, StoredObject

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
HEADERS = ("cacheControl", "contentDisposition", "contentEncoding", "contentLanguage", "contentType")  # of a download
MAX_COMPOSED = 32

_stores: WeakKeyDictionary[Any, ObjectStore] = WeakKeyDictionary()


def store(cloud: Cloud) -> ObjectStore:
    """The one store of a cloud."""
    found = _stores.get(cloud.db)
    if found is None:
        found = _stores.setdefault(cloud.db, ObjectStore(cloud.buckets, cloud.uploads, cloud.db))
    return found


@method("storage.objects.get")
def get(call: Call) -> dict[str, Any] | Response:
    check_bucket(call.cloud, call.params["bucket"])
    media = call.params.get("alt") == "media"
    bucket, name = call.params["bucket"], call.params["object"]
    # metadata comes with its checksums, content only when they are known: else a large file would be read twice
    found = store(call.cloud).get(bucket, name, digests=not media)
    found = _existing(call, found)
    if _unchanged(call.params, found):
        return Response(status_code=304)
    preconditions(call.params)(found)
    if not media:
        return resource(call.cloud, found)
    opened = store(call.cloud).open(bucket, name)
    if opened is None:
        raise _no_object(bucket, name)
    return download(*opened, etag=etag(opened[0]), asked=call.request.headers.get("range"))


@method("storage.objects.list")
def list_(call: Call) -> dict[str, Any]:
    check_bucket(call.cloud, call.params["bucket"])
    params = call.params
    bucket = params["bucket"]
    answer: dict[str, Any] = {"kind": "storage#objects"}
    if params.get("softDeleted"):
        return answer
    page = list_page(
        call.cloud.buckets / bucket,
        prefix=params.get("prefix", ""),
        delimiter=params.get("delimiter", ""),
        start=params.get("startOffset", ""),
        end=params.get("endOffset", ""),
        after=_from_token(params.get("pageToken", "")),
        limit=max(1, min(params.get("maxResults", 1000), 1000)),
    )
    fields = params.get("fields", "*")
    digests = "*" in fields or "md5Hash" in fields or "crc32c" in fields or not re.search(r"items[(/]", fields)
    found = (store(call.cloud).get(bucket, name, digests=digests) for name in page.names)
    items = [resource(call.cloud, item) for item in found if item is not None]
    if items:
        answer["items"] = items
    if page.prefixes:
        answer["prefixes"] = page.prefixes
    if page.last is not None:
        answer["nextPageToken"] = base64.urlsafe_b64encode(page.last.encode()).decode()
    return answer


@method("storage.objects.delete")
def delete(call: Call) -> Response:
    bucket, name = call.params["bucket"], call.params["object"]
    check_bucket(call.cloud, bucket)

    def check(found: StoredObject | None) -> None:
        preconditions(call.params)(_existing(call, found))

    store(call.cloud).delete(bucket, name, check)
    return Response(status_code=204)


@method("storage.objects.patch")
def patch(call: Call) -> dict[str, Any]:
    return _update(call, lambda old: merge(old, writable(call.body)))


@method("storage.objects.update")
def update(call: Call) -> dict[str, Any]:
    return _update(call, lambda _: merge({}, writable(call.body)))


@method("storage.objects.copy")
def copy(call: Call) -> dict[str, Any]:
    params = call.params
    return resource(call.cloud, _copy(call, params["destinationBucket"], params["destinationObject"]))


@method("storage.objects.rewrite")
def rewrite(call: Call) -> dict[str, Any]:
    params = call.params
    copied = _copy(call, params["destinationBucket"], params["destinationObject"])
    return {
        "kind": "storage#rewriteResponse",
        "done": True,
        "objectSize": str(copied.size),
        "totalBytesRewritten": str(copied.size),
        "resource": resource(call.cloud, copied),
    }


@method("storage.objects.compose")
def compose(call: Call) -> dict[str, Any]:
    bucket, name = call.params["destinationBucket"], call.params["destinationObject"]
    check_bucket(call.cloud, bucket)
    sources = call.body.get("sourceObjects", [])
    if not 1 <= len(sources) <= MAX_COMPOSED:
        raise invalid(f"The number of source objects must be between 1 and {MAX_COMPOSED}.")
    objects = store(call.cloud)
    files: list[BinaryIO] = []
    try:
        for source in sources:
            conditions = {"generation": source.get("generation"), **source.get("objectPreconditions", {})}
            _, file = _open(
                call.cloud, bucket, source["name"], {key: value for key, value in conditions.items() if value is not None}
            )
            files.append(file)
        composed = _write(
            call.cloud, bucket, name, files, writable(call.body.get("destination", {})), preconditions(call.params)
        )
    finally:
        for file in files:
            file.close()
    if call.body.get("deleteSourceObjects"):
        for source in sources:
            if source["name"] != name:
                objects.delete(bucket, source["name"], lambda _: None)
    return resource(call.cloud, composed)


def check_bucket(cloud: Cloud, name: str) -> None:
    """Raises ApiError (404) when there is no such bucket."""
    if not cloud.db.one("SELECT 1 FROM buckets WHERE name = ?", (name,)):
        raise ApiError(404, "NOT_FOUND", "The specified bucket does not exist.")


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


def _unchanged(params: Mapping[str, Any], found: StoredObject) -> bool:
    """Whether a reader that has this version already asked for another one only."""
    same_content = params.get("ifGenerationNotMatch") == str(found.generation)
    return same_content or params.get("ifMetagenerationNotMatch") == str(found.metageneration)


def resource(cloud: Cloud, found: StoredObject) -> dict[str, Any]:
    """The Object message."""
    path = f"b/{found.bucket}/o/{quote(found.name, safe='')}"
    created = _time(found.created)
    answer = {
        "kind": "storage#object",
        "id": f"{found.bucket}/{found.name}/{found.generation}",
        "selfLink": f"{cloud.base_url}/storage/v1/{path}",
        "mediaLink": f"{cloud.base_url}/download/storage/v1/{path}?generation={found.generation}&alt=media",
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
    return answer | found.metadata


def etag(found: StoredObject) -> str:
    return base64.b64encode(f"{found.generation}/{found.metageneration}".encode()).decode()


def refused(error: NameRefused) -> ApiError:
    return invalid(str(error))


def _time(micros: int) -> str:
    return rfc3339(datetime.fromtimestamp(micros / 1_000_000, timezone.utc))


def _from_token(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token).decode()
    except ValueError as error:
        raise invalid(f"Invalid page token: {token}") from error


def _no_object(bucket: str, name: str) -> ApiError:
    return ApiError(404, "NOT_FOUND", f"No such object: {bucket}/{name}")


def _existing(call: Call, found: StoredObject | None) -> StoredObject:
    """Raises ApiError (404) for an absent object, and for a generation that is not the current one: no others are kept."""
    generation = call.params.get("generation")
    if found is None or (generation is not None and generation != str(found.generation)):
        raise _no_object(call.params["bucket"], call.params["object"])
    return found


def _update(call: Call, change: Any) -> dict[str, Any]:
    bucket, name = call.params["bucket"], call.params["object"]
    check_bucket(call.cloud, bucket)
    checked = preconditions(call.params)
    found = store(call.cloud).update(bucket, name, change, lambda now: checked(_existing(call, now)))
    if found is None:
        raise _no_object(bucket, name)
    return resource(call.cloud, found)


def _open(cloud: Cloud, bucket: str, name: str, params: Mapping[str, Any], prefix: str = "if") -> tuple[StoredObject, BinaryIO]:
    check_bucket(cloud, bucket)
    opened = store(cloud).open(bucket, name)
    if opened is None:
        raise _no_object(bucket, name)
    found, file = opened
    try:
        if params.get("generation", str(found.generation)) != str(found.generation):
            raise _no_object(bucket, name)
        preconditions(params, prefix)(found)
    except ApiError:
        file.close()
        raise
    return found, file


def _copy(call: Call, bucket: str, name: str) -> StoredObject:
    check_bucket(call.cloud, bucket)
    params = dict(call.params)
    if "sourceGeneration" in params:
        params["generation"] = params["sourceGeneration"]
    found, file = _open(call.cloud, params["sourceBucket"], params["sourceObject"], params, "ifSource")
    with file:
        metadata = writable(call.body) or found.metadata
        return _write(call.cloud, bucket, name, [file], metadata, preconditions(call.params))


def _write(
    cloud: Cloud, bucket: str, name: str, sources: list[BinaryIO], metadata: Mapping[str, Any], check: Check
) -> StoredObject:
    objects = store(cloud)
    digests = Digests()
    try:
        objects.refuse_name(bucket, name)
        with objects.scratch() as path:
            with path.open("wb") as target:
                for source in sources:
                    while chunk := source.read(CHUNK):
                        digests.update(chunk)
                        target.write(chunk)
            return objects.commit(bucket, name, path, digests, merge({}, metadata), check)
    except NameRefused as error:
        raise refused(error) from error

"""Cloud Storage, objects: metadata, listing, download. Uploads are in `uploads.py`, copies in `copies.py`."""

from __future__ import annotations

import base64
import re
from functools import partial
from typing import Any
from urllib.parse import unquote
from weakref import WeakKeyDictionary

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import Response

from localcloud.api import ApiError, Call, invalid, method
from localcloud.cloud import Cloud
from localcloud.services.downloads import download
from localcloud.services.object_messages import (
    asked_generation,
    etag,
    merge,
    no_object,
    not_modified,
    preconditions,
    refuse_unoffered,
    replaceable,
    resource,
    writable,
)
from localcloud.services.retention import bucket_settings, check_own_retention, has_versioning
from localcloud.storage.globs import compile_glob, literal_prefix
from localcloud.storage.listing import list_page
from localcloud.storage.objects import ObjectStore
from localcloud.storage.stored import StoredObject
from localcloud.storage.versions import cut

_stores: WeakKeyDictionary[Any, ObjectStore] = WeakKeyDictionary()


def store(cloud: Cloud) -> ObjectStore:
    """The one store of a cloud."""
    found = _stores.get(cloud.db)
    if found is None:
        with cloud.db.lock:  # it tidies up when it is made, so a second one must not be made beside it
            found = _stores.get(cloud.db) or _stores.setdefault(cloud.db, ObjectStore(cloud.buckets, cloud.uploads, cloud.db))
    return found


@method("storage.objects.get")
async def get(call: Call) -> dict[str, Any] | Response:
    """In the event loop, since the way to another thread and back takes longer than a look at one file."""
    refuse_unoffered(call)
    bucket, name = call.params["bucket"], call.params["object"]
    settings = bucket_settings(call.cloud, bucket)
    generation = asked_generation(call.params)
    if call.params.get("alt") == "media":
        # a download does not wait for checksums that are not known yet: a large file would be read twice
        opened = store(call.cloud).open(bucket, name, generation)
        if opened is None:
            raise no_object(bucket, name)
        try:
            if answer := _refused(call, opened[0]):
                opened[1].close()
                return answer
            return download(*opened, etag=etag(opened[0]), asked=call.request.headers)
        except ApiError:
            opened[1].close()
            raise
    find = partial(store(call.cloud).get, bucket, name, generation=generation)
    found = existing(call, find())
    if found.crc32c is None:
        found = existing(call, await run_sync(partial(find, digests=True)))
    return _refused(call, found) or resource(call.cloud, found, settings)


def read_public_path(cloud: Cloud, request: Request, path: str) -> Response | None:
    """The content of an object asked for at /BUCKET/OBJECT, as at storage.googleapis.com; None when there is no such bucket."""
    bucket, _, name = (unquote(part) for part in path.partition("/"))
    if not name or not cloud.db.one("SELECT 1 FROM buckets WHERE name = ?", (bucket,)):
        return None
    opened = store(cloud).open(bucket, name)
    if opened is None:
        raise no_object(bucket, name)
    try:
        return download(*opened, etag=etag(opened[0]), asked=request.headers)
    except ApiError:
        opened[1].close()
        raise


@method("storage.objects.list")
def list_(call: Call) -> dict[str, Any]:
    refuse_unoffered(call)
    params = call.params
    bucket = params["bucket"]
    settings = bucket_settings(call.cloud, bucket)
    answer: dict[str, Any] = {"kind": "storage#objects"}
    prefix, glob = params.get("prefix", ""), params.get("matchGlob", "")
    delimiter = params.get("delimiter", "")
    if glob and delimiter not in ("", "/"):
        raise invalid("matchGlob goes with the delimiter / only.")
    try:
        matches = compile_glob(glob).fullmatch if glob else None
    except ValueError as error:
        raise invalid(str(error), field_path="matchGlob") from error
    literal = literal_prefix(glob)
    if not (literal.startswith(prefix) or prefix.startswith(literal)):
        return answer
    versions = params.get("versions", False)
    after, generation = _from_token(params.get("pageToken", ""))
    limit = max(1, min(params.get("maxResults", 1000), 1000))
    # with a delimiter the prefix says where groups begin, so only without one the pattern may lengthen it
    prefix = prefix if delimiter else max(prefix, literal, key=len)
    start = params.get("startOffset", "")
    page = list_page(
        call.cloud.buckets / bucket,
        prefix=prefix,
        delimiter=delimiter,
        start=max(start, after) if generation else start,  # of a name there may be more generations
        end=params.get("endOffset", ""),
        after="" if generation else after,
        limit=limit,
        matches=matches,
        trailing=params.get("includeTrailingDelimiter", False),
        besides=store(call.cloud).noncurrent.names(bucket, max(start, after), prefix) if versions else (),
    )
    fields = params.get("fields", "*")
    digests = "*" in fields or "md5Hash" in fields or "crc32c" in fields or not re.search(r"items[(/]", fields)
    if versions:
        every = store(call.cloud).get_versions(bucket, page.names, digests=digests)
        found, token = cut(page, every, limit, (after, generation))
    else:
        found = store(call.cloud).get_many(bucket, page.names, digests=digests)
        token = None if page.last is None else (page.last, 0)
    items = [resource(call.cloud, item, settings) for item in found]
    if items:
        answer["items"] = items
    if page.prefixes:
        answer["prefixes"] = page.prefixes
    if token is not None:
        answer["nextPageToken"] = _token(*token)
    return answer


@method("storage.objects.delete")
def delete(call: Call) -> Response:
    bucket, name = call.params["bucket"], call.params["object"]
    settings = bucket_settings(call.cloud, bucket)
    check = replaceable(call.cloud, settings, call.params)
    store(call.cloud).delete(
        bucket,
        name,
        lambda found: check(existing(call, found)),
        keep=has_versioning(settings),
        generation=asked_generation(call.params),
    )
    return Response(status_code=204)


@method("storage.objects.patch")
def patch(call: Call) -> dict[str, Any]:
    return _update(call, lambda old: merge(old, writable(call.body)))


@method("storage.objects.update")
def update(call: Call) -> dict[str, Any]:
    return _update(call, lambda _: merge({}, writable(call.body)))


def existing(call: Call, found: StoredObject | None) -> StoredObject:
    """Raises ApiError (404) for an absent object or generation."""
    if found is None:
        raise no_object(call.params["bucket"], call.params["object"])
    return found


def _refused(call: Call, found: StoredObject) -> Response | None:
    now = {"Generation": str(found.generation), "Metageneration": str(found.metageneration)}
    return not_modified(call, etag(found), **now)


def _update(call: Call, change: Any) -> dict[str, Any]:
    bucket, name = call.params["bucket"], call.params["object"]
    settings = bucket_settings(call.cloud, bucket)
    override = call.params.get("overrideUnlockedRetention", False)

    def checked(old: dict[str, Any]) -> dict[str, Any]:
        new: dict[str, Any] = change(old)
        check_own_retention(call.cloud, settings, old, new, override=override)
        return new

    check = preconditions(call.params)
    found = store(call.cloud).update(
        bucket, name, checked, lambda now: check(existing(call, now)), asked_generation(call.params)
    )
    if found is None:
        raise no_object(bucket, name)
    return resource(call.cloud, found, settings)


def _token(name: str, generation: int) -> str:
    """Where a page ends: after a name, or after a generation of one."""
    return base64.urlsafe_b64encode(f"{name}\0{generation or ''}".encode()).decode()


def _from_token(token: str) -> tuple[str, int]:
    try:
        name, _, generation = base64.urlsafe_b64decode(token).decode().partition("\0")
        return name, int(generation or 0)
    except ValueError as error:
        raise invalid(f"Invalid page token: {token}") from error

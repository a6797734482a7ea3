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
    etag,
    merge,
    no_generation,
    no_object,
    preconditions,
    replaceable,
    resource,
    writable,
)
from localcloud.services.retention import bucket_settings, check_own_retention
from localcloud.storage.globs import compile_glob, literal_prefix
from localcloud.storage.listing import list_page
from localcloud.storage.objects import ObjectStore, StoredObject

_stores: WeakKeyDictionary[Any, ObjectStore] = WeakKeyDictionary()


def store(cloud: Cloud) -> ObjectStore:
    """The one store of a cloud."""
    found = _stores.get(cloud.db)
    if found is None:
        found = _stores.setdefault(cloud.db, ObjectStore(cloud.buckets, cloud.uploads, cloud.db))
    return found


@method("storage.objects.get")
async def get(call: Call) -> dict[str, Any] | Response:
    """In the event loop, since the way to another thread and back takes longer than a look at one file."""
    bucket, name = call.params["bucket"], call.params["object"]
    settings = bucket_settings(call.cloud, bucket)
    if call.params.get("alt") == "media":
        # a download does not wait for checksums that are not known yet: a large file would be read twice
        opened = store(call.cloud).open(bucket, name)
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
    found = existing(call, store(call.cloud).get(bucket, name))
    if found.crc32c is None:
        found = existing(call, await run_sync(partial(store(call.cloud).get, bucket, name, digests=True)))
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
    params = call.params
    bucket = params["bucket"]
    settings = bucket_settings(call.cloud, bucket)
    answer: dict[str, Any] = {"kind": "storage#objects"}
    if params.get("softDeleted"):
        return answer
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
    page = list_page(
        call.cloud.buckets / bucket,
        # with a delimiter the prefix says where groups begin, so only without one the pattern may lengthen it
        prefix=prefix if delimiter else max(prefix, literal, key=len),
        delimiter=delimiter,
        start=params.get("startOffset", ""),
        end=params.get("endOffset", ""),
        after=_from_token(params.get("pageToken", "")),
        limit=max(1, min(params.get("maxResults", 1000), 1000)),
        matches=matches,
        trailing=params.get("includeTrailingDelimiter", False),
    )
    fields = params.get("fields", "*")
    digests = "*" in fields or "md5Hash" in fields or "crc32c" in fields or not re.search(r"items[(/]", fields)
    found = store(call.cloud).get_many(bucket, page.names, digests=digests)
    items = [resource(call.cloud, item, settings) for item in found]
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
    check = replaceable(call.cloud, bucket_settings(call.cloud, bucket), call.params)
    store(call.cloud).delete(bucket, name, lambda found: check(existing(call, found)))
    return Response(status_code=204)


@method("storage.objects.patch")
def patch(call: Call) -> dict[str, Any]:
    return _update(call, lambda old: merge(old, writable(call.body)))


@method("storage.objects.update")
def update(call: Call) -> dict[str, Any]:
    return _update(call, lambda _: merge({}, writable(call.body)))


def existing(call: Call, found: StoredObject | None) -> StoredObject:
    """Raises ApiError (404, 501) for an absent object, and for a generation that is not the current one: no others are kept."""
    bucket, name, generation = call.params["bucket"], call.params["object"], call.params.get("generation")
    if generation is not None and (found is None or generation != str(found.generation)):
        raise no_generation(call.cloud, bucket, name, generation)
    if found is None:
        raise no_object(bucket, name)
    return found


def _refused(call: Call, found: StoredObject) -> Response | None:
    """304 to a reader who has this version and asked for another one only. Raises ApiError 404, 412."""
    found = existing(call, found)
    unwanted = call.params.get("ifGenerationNotMatch"), call.params.get("ifMetagenerationNotMatch")
    if unwanted[0] == str(found.generation) or unwanted[1] == str(found.metageneration):
        return Response(status_code=304)
    preconditions(call.params)(found)
    return None


def _update(call: Call, change: Any) -> dict[str, Any]:
    bucket, name = call.params["bucket"], call.params["object"]
    settings = bucket_settings(call.cloud, bucket)
    override = call.params.get("overrideUnlockedRetention", False)

    def checked(old: dict[str, Any]) -> dict[str, Any]:
        new: dict[str, Any] = change(old)
        check_own_retention(call.cloud, settings, old, new, override=override)
        return new

    found = store(call.cloud).update(bucket, name, checked, lambda now: preconditions(call.params)(existing(call, now)))
    if found is None:
        raise no_object(bucket, name)
    return resource(call.cloud, found, settings)


def _from_token(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token).decode()
    except ValueError as error:
        raise invalid(f"Invalid page token: {token}") from error

"""Cloud Storage, uploads: simple, multipart and resumable (https://cloud.google.com/storage/docs/uploads-downloads).

Content goes to a file in `uploads/` as it arrives and becomes the object in one step at the end. A resumable upload survives a
restart of the server: its session is a row, its bytes are the file.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

from anyio.to_thread import run_sync
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from localcloud.api import ApiError, Call, invalid, method
from localcloud.cloud import Cloud
from localcloud.database import register_schema
from localcloud.messages import parse_json
from localcloud.services.object_messages import check_acl, merge, preconditions, replaceable, resource, writable
from localcloud.services.objects import store
from localcloud.services.retention import bucket_settings, check_own_retention, has_versioning
from localcloud.storage.digests import CHUNK, Digests, digest_file
from localcloud.storage.multipart import Multipart, MultipartError, boundary_of
from localcloud.storage.objects import NameRefused, Note, no_note
from localcloud.storage.stored import StoredObject

register_schema(
    """
    CREATE TABLE IF NOT EXISTS uploads (
        id TEXT PRIMARY KEY, bucket TEXT NOT NULL, params TEXT NOT NULL, metadata TEXT NOT NULL,
        done TEXT, started REAL NOT NULL
    ) WITHOUT ROWID;
    """
)

METADATA_LIMIT = 1 << 20
_receiving: set[str] = set()  # sessions that a request is in `_alone` for; only the event loop's thread reads and writes it
SESSION_SECONDS = 7 * 24 * 3600  # an upload session lives a week, as Google's does


@method("storage.objects.insert")
async def insert(call: Call) -> dict[str, Any] | Response:
    if not call.upload:
        raise invalid("An object without content cannot be inserted: upload it to /upload/storage/v1/b/BUCKET/o.")
    kind = call.params.get("uploadType")
    if "upload_id" in call.params:
        return await _continue(call)
    if call.request.method != "POST":
        raise ApiError(405, message="An upload begins with POST.")
    if kind == "resumable":
        return await _begin(call)
    try:
        if kind == "multipart":
            parts = Multipart(_stream(call), boundary_of(call.request.headers.get("content-type", "")))
            metadata = call.method.read_body(await parts.metadata())
            media: AsyncIterator[bytes] = parts.media()
            media_type = parts.media_type
        elif kind == "media":
            metadata, media, media_type = {}, _stream(call), call.request.headers.get("content-type")
        else:
            raise invalid(f"Invalid uploadType: {kind!r} is none of media, multipart, resumable.")
        return await _receive(call, metadata, media, media_type)
    except MultipartError as error:
        raise invalid(f"Malformed multipart body: {error}.") from error


async def _receive(call: Call, metadata: dict[str, Any], media: AsyncIterator[bytes], media_type: str | None) -> dict[str, Any]:
    pieces = _gathered(media)
    try:
        first = await anext(pieces, b"")
        if len(first) < CHUNK:  # that is all: one way to another thread and back
            return await run_sync(_keep, call, metadata, first, media_type)
        name = await run_sync(_checked_name, call, metadata)
        digests = Digests()
        with store(call.cloud).scratch() as path:
            with path.open("wb", buffering=0) as file:
                await _append_all(file, first, pieces, digests)
            return await run_sync(_finish, call, name, path, digests, metadata, media_type)
    except ClientDisconnect as error:
        raise ApiError(400, message="The client went away before the upload was complete.") from error


def _keep(call: Call, metadata: dict[str, Any], content: bytes, media_type: str | None) -> dict[str, Any]:
    """Makes content that is in memory the object."""
    name = _checked_name(call, metadata)
    digests = Digests()
    with store(call.cloud).scratch() as path:
        with path.open("wb", buffering=0) as file:
            _append(file, content, digests)
        return _finish(call, name, path, digests, metadata, media_type)


async def _append_all(file: Any, first: bytes, pieces: AsyncIterator[bytes], digests: Digests | None) -> None:
    """Writes the pieces, each while the next one arrives."""
    writing = asyncio.ensure_future(run_sync(_append, file, first, digests))
    try:
        async for piece in pieces:
            await writing
            writing = asyncio.ensure_future(run_sync(_append, file, piece, digests))
    finally:
        await writing


def _checked_name(call: Call, metadata: dict[str, Any]) -> str:
    """The object's name. Raises ApiError when there is none, no such bucket, or no file can have it."""
    bucket = call.params["bucket"]
    check_acl(bucket_settings(call.cloud, bucket), call.params)
    name = _name(call.params, metadata)
    objects = store(call.cloud)
    try:
        objects.refuse_name(bucket, name)
        objects.refuse_clash(bucket, name)
    except NameRefused as error:
        raise invalid(str(error)) from error
    return name


def _append(file: Any, chunk: bytes, digests: Digests | None) -> None:
    view = memoryview(chunk)
    while view:
        view = view[file.write(view) :]
    if digests is not None:
        digests.update(chunk)


def _finish(
    call: Call,
    name: str,
    path: Path,
    digests: Digests,
    metadata: dict[str, Any],
    media_type: str | None,
    note: Note = no_note,
) -> dict[str, Any]:
    """Checks what the client says of the content, then makes it the object. Returns the Object message."""
    headers = call.request.headers
    promised = dict(re.findall(r"(crc32c|md5)=([A-Za-z0-9+/=]+)", headers.get("x-goog-hash", "")))
    for key, found, given in (
        ("md5Hash", digests.md5, metadata.get("md5Hash") or promised.get("md5") or headers.get("content-md5")),
        ("crc32c", digests.crc32c, metadata.get("crc32c") or promised.get("crc32c")),
    ):
        if given and given != found:
            raise invalid(f"Provided {key} '{given}' doesn't match calculated '{found}'.")
    fields = merge({}, writable(metadata))
    if media_type and "contentType" not in fields:
        fields |= writable({"contentType": media_type})
    if "contentEncoding" in call.params:
        fields |= writable({"contentEncoding": call.params["contentEncoding"]})
    settings = bucket_settings(call.cloud, call.params["bucket"])
    fields.setdefault("storageClass", settings["storageClass"])
    if settings.get("defaultEventBasedHold"):
        fields.setdefault("eventBasedHold", True)
    check_own_retention(call.cloud, settings, {}, fields, override=False)
    check = replaceable(call.cloud, settings, call.params)
    try:
        stored = store(call.cloud).commit(
            call.params["bucket"], name, path, digests, fields, check, keep=has_versioning(settings), note=note
        )
    except NameRefused as error:
        raise invalid(str(error)) from error
    return resource(call.cloud, stored, settings)


# -- resumable


async def _begin(call: Call) -> Response:
    chunks = bytearray()
    async for chunk in call.request.stream():
        chunks += chunk
        if len(chunks) > METADATA_LIMIT:
            raise ApiError(413, message=f"The metadata of an upload is larger than {METADATA_LIMIT} bytes.")
    try:
        metadata = call.method.read_body(parse_json(chunks or b"{}"))
    except ValueError as error:
        raise invalid(f"Invalid JSON payload received. {error}") from error
    metadata.setdefault("contentType", call.request.headers.get("x-upload-content-type", "application/octet-stream"))
    return await run_sync(_open_session, call, metadata)


def _open_session(call: Call, metadata: dict[str, Any]) -> Response:
    bucket, name = call.params["bucket"], _checked_name(call, metadata)
    preconditions(call.params)(store(call.cloud).get(bucket, name))
    _forget_old_sessions(call.cloud)
    upload_id = secrets.token_urlsafe(24)
    params = {key: value for key, value in call.params.items() if key.startswith("if") or key == "contentEncoding"}
    metadata["name"] = name
    _session_file(call.cloud, upload_id).touch()
    call.cloud.db.execute(
        "INSERT INTO uploads VALUES (?, ?, ?, ?, NULL, ?)",
        (upload_id, bucket, json.dumps(params), json.dumps(metadata), time.time()),
    )
    query = f"uploadType=resumable&name={quote(name, safe='')}&upload_id={upload_id}"
    location = f"{call.cloud.base_url}/upload/storage/v1/b/{bucket}/o?{query}"
    return Response(status_code=200, headers={"Location": location, "X-GUploader-UploadID": upload_id})


async def _continue(call: Call) -> dict[str, Any] | Response:
    upload_id = call.params["upload_id"]
    path = _session_file(call.cloud, upload_id)
    if call.request.method == "DELETE":
        await run_sync(_session, call)
        with _alone(upload_id):
            await run_sync(_forget_session, call.cloud, upload_id)
        return Response(status_code=499)
    if done := await run_sync(_done, call, path):
        return done
    first, total = _content_range(call.request.headers)
    received = path.stat().st_size if path.exists() else 0
    if (first is None and (total is None or received < total)) or (first is not None and first > received):
        return _incomplete(received)  # says from where to go on
    with _alone(upload_id):
        if done := await run_sync(_done, call, path):  # by another request, meanwhile
            return done
        if first is not None:
            received = await _receive_part(call, path, first)
            if "content-range" not in call.request.headers:
                total = received
        if total is None or received < total:
            return _incomplete(received)
        if received > total:
            raise invalid(f"The upload has {received} bytes, but {total} were announced.")
        return await run_sync(_complete, call, path)


@contextmanager
def _alone(upload_id: str) -> Iterator[None]:
    """Raises ApiError 503 while another request is in here for the same upload."""
    if upload_id in _receiving:
        raise ApiError(503, message="Another request is still sending bytes of this upload, or completing it.")
    _receiving.add(upload_id)
    try:
        yield
    finally:
        _receiving.discard(upload_id)


def _session(call: Call) -> Any:
    """The session's row. Raises ApiError 404."""
    upload_id = call.params["upload_id"]
    row = call.cloud.db.one("SELECT * FROM uploads WHERE id = ? AND bucket = ?", (upload_id, call.params["bucket"]))
    if row is None:
        raise ApiError(404, message=f"There is no upload session {upload_id}: begin the upload again.")
    return row


def _done(call: Call, path: Path) -> dict[str, Any] | None:
    """The Object message of an upload that is complete: what was noted of it counts once the bytes have become the object."""
    row = _session(call)
    if row["done"] is None or path.exists():
        return None
    stored = StoredObject(**json.loads(row["done"]))
    store(call.cloud).complete(stored)
    return resource(call.cloud, stored, bucket_settings(call.cloud, stored.bucket))


async def _receive_part(call: Call, path: Path, first: int) -> int:
    """Appends the bytes not yet received; what arrived stays when the client goes away. Returns how many bytes there are."""
    path.touch()
    with path.open("r+b", buffering=0) as file:
        skip = file.seek(0, 2) - first
        try:
            await _append_all(file, b"", _after(_gathered(call.request.stream()), skip), None)
        except ClientDisconnect as error:
            raise ApiError(400, message="The client went away; the upload can be resumed.") from error
        return file.tell()


def _complete(call: Call, path: Path) -> dict[str, Any]:
    row = _session(call)
    call.params.update(json.loads(row["params"]))
    metadata = json.loads(row["metadata"])
    with path.open("rb") as file:
        digests = digest_file(file)

    def note(stored: StoredObject) -> None:
        """For a client that missed the answer and asks again, of this server or of the next one."""
        call.cloud.db.execute("UPDATE uploads SET done = ? WHERE id = ?", (json.dumps(asdict(stored)), row["id"]))

    try:
        return _finish(call, metadata["name"], path, digests, metadata, None, note)
    except ApiError:
        _forget_session(call.cloud, row["id"])
        raise


def _incomplete(received: int) -> Response:
    headers = {"Range": f"bytes=0-{received - 1}"} if received else {}
    return Response(status_code=308, headers=headers)


def _content_range(headers: Mapping[str, str]) -> tuple[int | None, int | None]:
    """(first byte, total): first is None for a query of the state; total is None while it is not known."""
    header = headers.get("content-range")
    if header is None:
        return 0, None
    match = re.fullmatch(r"bytes\s+(?:(\d+)-(\d+)|\*)/(\d+|\*)", header.strip())
    if not match:
        raise invalid(f"Failed to parse Content-Range header: {header!r}.")
    total = int(match[3]) if match[3] != "*" else None
    if match[1] is None:
        return None, total
    first, end = int(match[1]), int(match[2]) + 1
    length = headers.get("content-length")  # not there when the length was not known before
    if end <= first or (total is not None and end > total) or (length is not None and int(length) != end - first):
        raise invalid(f"Content-Range {header!r} does not go with the {length or 'unknown number of'} bytes that are sent.")
    return first, total


def _session_file(cloud: Cloud, upload_id: str) -> Path:
    return cloud.uploads / f"session-{upload_id}"


def _forget_session(cloud: Cloud, upload_id: str) -> None:
    cloud.db.execute("DELETE FROM uploads WHERE id = ?", (upload_id,))
    _session_file(cloud, upload_id).unlink(missing_ok=True)


def _forget_old_sessions(cloud: Cloud) -> None:
    for row in cloud.db.query("SELECT id FROM uploads WHERE started < ?", (time.time() - SESSION_SECONDS,)):
        _forget_session(cloud, row["id"])


# -- inside


def _name(params: dict[str, Any], metadata: dict[str, Any]) -> str:
    name = params.get("name") or metadata.get("name")
    if not name:
        raise ApiError(400, message="Required parameter: name", reason="required")
    return str(name)


async def _stream(call: Call) -> AsyncIterator[bytes]:
    async for chunk in call.request.stream():
        yield chunk


async def _after(chunks: AsyncIterator[bytes], skip: int) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        if skip < len(chunk):
            yield chunk[skip:]
        skip = max(0, skip - len(chunk))


async def _gathered(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in pieces of about a megabyte, so that each is worth the way to another thread."""
    gathered = bytearray()
    async for chunk in chunks:
        gathered += chunk
        if len(gathered) >= CHUNK:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)

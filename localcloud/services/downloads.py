"""Cloud Storage, downloads: an object's content as a stream, whole or in part."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import BinaryIO

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from localcloud.api import ApiError
from localcloud.storage.digests import CHUNK
from localcloud.storage.stored import StoredObject

HEADERS = {
    "contentEncoding": "Content-Encoding",
    "contentDisposition": "Content-Disposition",
    "contentLanguage": "Content-Language",
    "cacheControl": "Cache-Control",
}
AT_ONCE = 1 << 18  # bytes that are read before the answer begins; of more than these the kernel sends the file


def download(found: StoredObject, file: BinaryIO, *, etag: str, asked: Mapping[str, str]) -> Response:
    """The content of an opened object, or what the request's headers `asked` for of it; closes the file.

    Raises ApiError 416; the file is then still open.
    """
    headers = [(b"etag", etag.encode()), *_headers(found)]
    response: Response
    if found.metadata.get("contentEncoding") == "gzip":
        headers.append((b"vary", b"Accept-Encoding"))
        if _wants_plain(found, asked.get("accept-encoding", "")):
            # the size of what is sent is not known, so it has none, and no ranges
            headers = [each for each in headers if each[0] not in (b"content-encoding", b"accept-ranges")]
            response = StreamingResponse(_unzipped(file))
            response.raw_headers += [*headers, (b"warning", b"214 UploadServer gunzipped")]
            return response
    first, last = 0, found.size - 1
    status = 200
    wanted = byte_range(asked.get("range", ""), found.size)
    if wanted is not None:
        (first, last), status = wanted, 206
        headers.append((b"content-range", b"bytes %d-%d/%d" % (first, last, found.size)))
    if last - first < AT_ONCE:
        with file:
            response = Response(_read(file, first, last - first + 1), status)
    else:
        response = _FilePart(file, first, last - first + 1, status)
    response.raw_headers += headers
    return response


@lru_cache(1024)
def _headers(found: StoredObject) -> tuple[tuple[bytes, bytes], ...]:
    """Those that every download of the object has."""
    headers = {
        "Content-Type": found.metadata.get("contentType", "application/octet-stream"),
        "Accept-Ranges": "bytes",
        "X-Goog-Generation": str(found.generation),
        "X-Goog-Metageneration": str(found.metageneration),
        "X-Goog-Storage-Class": found.metadata.get("storageClass", "STANDARD"),
        "X-Goog-Stored-Content-Length": str(found.size),
        "X-Goog-Stored-Content-Encoding": found.metadata.get("contentEncoding", "identity"),
    }
    if found.md5 and found.crc32c:
        headers["X-Goog-Hash"] = f"crc32c={found.crc32c},md5={found.md5}"
    for key, name in HEADERS.items():
        if key in found.metadata:
            headers[name] = found.metadata[key]
    # characters beyond ASCII go as UTF-8
    return tuple((name.lower().encode(), value.encode()) for name, value in headers.items())


def _wants_plain(found: StoredObject, accepted: str) -> bool:
    """Decompressive transcoding: https://cloud.google.com/storage/docs/transcoding."""
    fixed = "no-transform" in found.metadata.get("cacheControl", "").lower()
    return not fixed and "gzip" not in accepted.lower()


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """First and last byte asked for by a Range header (RFC 9110), None to send everything. ApiError 416 beyond the end."""
    match = re.fullmatch(r"\s*bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*", header)
    if not match or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if first == "":
        begin, end = max(0, size - int(last)), size - 1
    else:
        begin, end = int(first), min(int(last) if last else size - 1, size - 1)
    if begin > end:
        message = f"The requested range cannot be satisfied: the object has {size} bytes."
        raise ApiError(416, message=message, headers={"Content-Range": f"bytes */{size}"})  # how clients know an empty object
    return begin, end


class _FilePart(Response):
    """A part of an open file, which the connection sends; closes the file."""

    def __init__(self, file: BinaryIO, first: int, length: int, status_code: int) -> None:
        super().__init__(None, status_code, {"Content-Length": str(length)})
        self._part = file, first, length

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        file, first, length = self._part
        with file:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if scope["method"] != "HEAD":
                await scope["state"]["send_file"](file.fileno(), first, length)
            await send({"type": "http.response.body"})


def _read(file: BinaryIO, first: int, length: int) -> bytes:
    content = os.pread(file.fileno(), length, first)
    if len(content) != length:
        raise OSError("the file became shorter while it was read")
    return content


def _unzipped(file: BinaryIO) -> Iterator[bytes]:
    """The content of a gzip file in pieces of at most a chunk, however much it was compressed.

    What was stored with this encoding but is not gzip ends the answer early, as the service does.
    """
    inflate = zlib.decompressobj(wbits=31)
    with file:
        while not inflate.eof and (piece := inflate.unconsumed_tail or file.read(CHUNK)):
            yield inflate.decompress(piece, CHUNK)
        yield inflate.flush()

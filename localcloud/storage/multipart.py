"""Takes a multipart/related upload apart while it arrives: one part of JSON metadata, one of media (RFC 2387)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from email.message import Message
from typing import Any

from localcloud.messages import parse_json

METADATA_LIMIT = 1 << 20


class MultipartError(Exception):
    """The body is not what the Content-Type says."""


def boundary_of(content_type: str) -> bytes:
    """The boundary parameter, quoted or not. Raises MultipartError."""
    message = Message()
    message["Content-Type"] = content_type
    boundary = message.get_param("boundary")
    if message.get_content_maintype() != "multipart" or not isinstance(boundary, str) or not boundary:
        raise MultipartError(f"the Content-Type {content_type!r} is not multipart/related with a boundary")
    boundary = boundary.strip()
    if boundary[0] == boundary[-1] == "'":  # gcloud puts single quotes around it, which are not part of it
        boundary = boundary[1:-1]
    return boundary.encode("latin-1")


class Multipart:
    """`await metadata()` first, then iterate over `media()`; `media_type` is known from then on."""

    def __init__(self, chunks: AsyncIterator[bytes], boundary: bytes) -> None:
        self._chunks = chunks
        self._boundary = b"--" + boundary
        self._line_end = b"\r\n"
        self._buffer = bytearray()
        self.media_type: str | None = None

    async def metadata(self) -> dict[str, Any]:
        """The JSON object of the first part. Raises MultipartError."""
        await self._through(self._boundary)
        # gcloud ends its lines with a line feed alone, against the RFC
        self._line_end = b"\r\n" if await self._through(b"\n") == b"\r" else b"\n"
        await self._headers()
        try:
            parsed = parse_json(await self._through(self._delimiter()) or b"{}")
        except ValueError as error:
            raise MultipartError(f"its first part is not JSON: {error}") from error
        if not isinstance(parsed, dict):
            raise MultipartError("its first part is not a JSON object")
        await self._through(self._line_end)  # the rest of the delimiter's line
        headers = await self._headers()
        encoding = headers.get("content-transfer-encoding", "binary").lower()
        if encoding not in ("binary", "8bit", "7bit"):
            raise MultipartError(f"its Content-Transfer-Encoding {encoding} is not supported")
        self.media_type = headers.get("content-type")
        return parsed

    async def media(self) -> AsyncIterator[bytes]:
        """The bytes of the second part. Raises MultipartError when the body ends before the part does."""
        delimiter = self._delimiter()
        keep = len(delimiter) - 1
        while (position := self._buffer.find(delimiter)) < 0:
            if len(self._buffer) > keep:
                ready = bytes(self._buffer[:-keep])
                del self._buffer[:-keep]
                yield ready
            if not await self._more():
                raise MultipartError("its last part has no end")
        yield bytes(self._buffer[:position])
        self._buffer.clear()
        while await self._more():  # the epilogue, so that the connection can be used again
            self._buffer.clear()

    def _delimiter(self) -> bytes:
        return self._line_end + self._boundary

    async def _more(self) -> bool:
        try:
            self._buffer += await anext(self._chunks)
        except StopAsyncIteration:
            return False
        return True

    async def _through(self, end: bytes) -> bytes:
        """What stands before `end`; the buffer begins after it."""
        while (position := self._buffer.find(end)) < 0:
            if len(self._buffer) > METADATA_LIMIT:
                raise MultipartError(f"its first part is larger than {METADATA_LIMIT} bytes")
            if not await self._more():
                raise MultipartError("a part is missing")
        found = bytes(self._buffer[:position])
        del self._buffer[: position + len(end)]
        return found

    async def _headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        while line := await self._through(self._line_end):
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        return headers

"""The bodies of requests: read whole up to a limit, as JSON or as the message that a method takes."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from localcloud.api import ApiError, invalid
from localcloud.discovery import Method
from localcloud.messages import parse_json

LIMIT = 32 * 2**20  # bytes of a JSON body; media is streamed and has no limit


async def read_json(request: Request) -> dict[str, Any]:
    """The body of one of the local cloud's own calls."""
    try:
        body = parse_json(await read(request) or b"{}")
    except ValueError as error:
        raise invalid(f"Invalid JSON payload received. {error}") from error
    if not isinstance(body, dict):
        raise invalid("Invalid JSON payload received. Root element must be a message.")
    return body


async def read(request: Request) -> bytes:
    chunks = bytearray()
    async for chunk in request.stream():
        chunks += chunk
        if len(chunks) > LIMIT:
            raise ApiError(413, message=f"The request body is larger than {LIMIT} bytes.")
    return bytes(chunks)


async def read_message(request: Request, found: Method) -> dict[str, Any]:
    chunks = await read(request) if "request" in found.description else b""
    if not chunks:
        return {}
    try:
        parsed = parse_json(chunks)
    except ValueError as error:
        raise invalid(f"Invalid JSON payload received. {error}") from error
    return found.read_body(parsed)

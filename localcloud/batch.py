"""Several calls in one request (https://cloud.google.com/storage/docs/batch): multipart/mixed of application/http parts."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from email.parser import BytesParser
from http import HTTPStatus
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from localcloud.api import ApiError, invalid

PATHS = ("batch", "batch/storage/v1")
MAX_CALLS = 100
Respond = Callable[[Request], Awaitable[Response]]


async def answer(request: Request, body: bytes, respond: Respond) -> Response:
    """Carries the calls out one after the other, each as if it had come alone with the outer request's headers.

    Raises ApiError 400 when the body is not a batch; a call's own failure is its part of the answer.
    """
    if request.method != "POST":
        raise ApiError(405, message="A batch is sent with POST.")
    head = f"Content-Type: {request.headers.get('content-type', '')}\r\n\r\n".encode("latin-1")
    parts = [part for part in BytesParser().parsebytes(head + body).walk() if part.get_content_type() == "application/http"]
    if not parts:
        raise invalid("Failed to parse batch request: the body is not multipart/mixed with at least one application/http part.")
    if len(parts) > MAX_CALLS:
        raise invalid(f"The batch has {len(parts)} calls, and at most {MAX_CALLS} are allowed.")
    boundary = f"batch_{secrets.token_urlsafe(12)}"
    answers = b""
    for part in parts:
        payload = part.get_payload(decode=True)
        answered = await respond(_inner(request, payload if isinstance(payload, bytes) else b""))
        number = part.get("Content-ID", "")
        echoed = f"Content-ID: <response-{number.strip().lstrip('<')}\r\n" if number.isprintable() and number else ""
        answers += f"--{boundary}\r\nContent-Type: application/http\r\n{echoed}\r\n".encode() + _written(answered)
    return Response(answers + f"--{boundary}--\r\n".encode(), media_type=f"multipart/mixed; boundary={boundary}")


def _inner(outer: Request, payload: bytes) -> Request:
    head, _, body = payload.replace(b"\r\n", b"\n").lstrip(b"\n").partition(b"\n\n")
    line, _, given = head.partition(b"\n")
    words = line.decode("latin-1").split()
    if len(words) < 2:
        raise invalid("Failed to parse batch request: a part does not begin with METHOD PATH.")
    url = urlsplit(words[1])
    if not url.path.startswith("/storage/v1/") or ("alt", "media") in parse_qsl(url.query):
        raise invalid(f"A batch takes calls of /storage/v1/ that neither upload nor download content, not {words[1]}.")
    own = {name.lower(): value for name, value in BytesParser().parsebytes(given + b"\n\n").items()}
    headers = {name: value for name, value in outer.headers.items() if not name.startswith("content-")}
    headers |= {name: value for name, value in own.items() if name not in ("host", "origin", "content-length", "content-id")}
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    scope = {**outer.scope, "method": words[0], "path": url.path, "raw_path": url.path.encode("latin-1"), "headers": raw}

    async def receive() -> Message:
        return {"type": "http.request", "body": body.rstrip(b"\n"), "more_body": False}

    return Request({**scope, "query_string": url.query.encode("latin-1")}, receive)


def _written(answered: Response) -> bytes:
    head = f"HTTP/1.1 {answered.status_code} {HTTPStatus(answered.status_code).phrase}\r\n".encode()
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in answered.raw_headers)
    return head + lines + b"\r\n" + bytes(answered.body) + b"\r\n"

"""The ASGI endpoint of every API: who calls, which method that is, what its handler answers or refuses."""

from __future__ import annotations

import asyncio
import errno
import hmac
import inspect
import logging
import sqlite3
import time
from collections.abc import Callable, Coroutine
from email.utils import formatdate
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from anyio.to_thread import run_sync
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from localcloud import batch, chaos, credentials, masks, permissions
from localcloud.api import Answer, ApiError, Call, handler_of, invalid
from localcloud.bodies import read, read_json, read_message
from localcloud.cloud import Cloud
from localcloud.connection import hang_up
from localcloud.dashboard.app import SIGN_IN, Dashboard
from localcloud.dashboard.client import Client
from localcloud.discovery import DOCUMENTS, UNREAD, Method, Router
from localcloud.home import HOST
from localcloud.jobs import identity, metadata
from localcloud.services.objects import read_public_path

REMEMBERED = 1024  # paths and query strings whose meaning is kept
LONGEST = 4096  # bytes of such a path

Quick = Callable[[Call], Coroutine[Any, Any, Answer]]  # a handler that runs in the event loop

log = logging.getLogger("localcloud")


class Endpoint:
    """Turns a request into a call of a handler."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._faults = chaos.Faults(cloud)
        self._router = Router(DOCUMENTS, lambda found: handler_of(found) is not None)
        self._dashboard = Dashboard(Client(cloud, self._router.methods))
        port = urlsplit(cloud.base_url).port
        self._hosts = {f"{name}:{port}" for name in (HOST, "localhost")}
        self._host_headers = {name.encode() for name in self._hosts}
        self._authorization = f"Bearer {cloud.token}".encode()
        # what a path or a query means depends on nothing else
        self._known_match = lru_cache(REMEMBERED)(self._match_quick)
        self._known_query = lru_cache(REMEMBERED)(_query)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        try:
            response = await self._respond(request)
        except chaos.HangUp:
            await hang_up(scope, receive)
            return
        response.raw_headers.append(self._date())
        await response(scope, receive, send)

    def at_once(self, scope: Scope) -> Response | None:
        """The answer to a GET of the owner's whose handler has no need to wait, else None: then `__call__` gives it.

        Whatever is not as plain as can be goes that way, errors too: what they say is put together there alone.
        """
        raw_path, query, headers = scope["raw_path"], scope["query_string"], dict(scope["headers"])
        if (
            scope["method"] != "GET"
            or self._faults.any()
            or len(headers) != len(scope["headers"])
            or headers.get(b"host") not in self._host_headers
            or b"origin" in headers
            or not hmac.compare_digest(headers.get(b"authorization", b""), self._authorization)
            or len(raw_path) + len(query) > LONGEST
        ):
            return None
        try:
            found, handler, path_params = self._known_match(raw_path)
            if found is None or handler is None:
                return None
            params = path_params | self._known_query(found, query)
            response = _response(_in_one_step(handler(Call(found, params, {}, self._cloud, Request(scope)))), params)
        except Exception:
            return None
        response.raw_headers.append(self._date())
        return response

    def _date(self) -> tuple[bytes, bytes]:
        """The header, by the cloud's own clock, which may be wrong on request."""
        return b"date", _http_date(int(time.time() + self._cloud.skew.total_seconds()))

    async def _respond(self, request: Request) -> Response:
        raw_path = request.scope["raw_path"].decode("ascii").lstrip("/")
        try:
            return await self._answer(request, raw_path)
        except chaos.HangUp:
            raise
        except Exception as error:
            storage = "storage/v1/" in raw_path[: len("resumable/upload/storage/v1/")]
            return _error_response(self._refusal(error, f"{request.method} /{raw_path}"), storage)

    def _refusal(self, error: Exception, what: str) -> ApiError:
        if isinstance(error, ApiError):
            return error
        if _is_full(error):
            log.error("%s: %s", what, error)
            return ApiError(
                507, message=f"No space left for the local cloud's state in {self._cloud.home}: free some, then try again."
            )
        log.error("%s", what, exc_info=error)
        return ApiError(500, message=f"Internal error in {what}; the cause is in server.log.")

    async def _answer(self, request: Request, raw_path: str) -> Response:
        self._check_host(request)
        if raw_path == "healthz" and request.method in ("GET", "HEAD"):
            return JSONResponse({"status": "ok"})
        if raw_path == credentials.PATH and request.method == "POST":
            return JSONResponse(credentials.exchange(await read(request), self._cloud.token))
        if raw_path.startswith(metadata.PREFIX):
            return await run_sync(metadata.answer, self._cloud, request, raw_path)
        if Dashboard.owns(raw_path):
            return await self._dashboard.answer(request, raw_path)
        caller = await self._caller(request)
        if raw_path in (chaos.PATH, SIGN_IN) and caller.email is not None:
            raise ApiError(403, message=f"/{raw_path} is for the local cloud's own token.")
        if raw_path == chaos.PATH:
            return JSONResponse(await self._chaos(request))
        if raw_path == SIGN_IN:
            return await self._sign_in(request)
        if raw_path in batch.PATHS:
            return await batch.answer(request, await read(request), self._respond)
        return await self._call(request, raw_path, caller)

    async def _call(self, request: Request, raw_path: str, caller: identity.Caller) -> Response:
        """The answer of the method that the path means."""
        http_method, query = request.method, request.scope["query_string"]
        if http_method == "POST" and request.headers.get("x-http-method-override") == "GET":
            http_method, query = "GET", await read(request)  # so Google's API client sends a GET of more than 2,048 characters
        found, path_params, upload = self._match(http_method, raw_path)
        if found is None and request.method in ("GET", "HEAD"):
            path = raw_path.rstrip("/")
            if caller.email is not None:
                owner = {"bucket": unquote(path.partition("/")[0])}
                await run_sync(permissions.check_call, self._cloud, caller.email, "storage.objects.get", owner)
            answered = await run_sync(read_public_path, self._cloud, request, path)
            if answered is not None:
                return answered
        if found is None and UNREAD.match(raw_path):
            raise ApiError(501, message=f"{request.method} /{raw_path} is not offered by the local cloud.")
        if found is None or (upload and "mediaUpload" not in found.description):
            raise ApiError(404, message=f"The requested URL {request.method} /{raw_path} was not found on this server.")
        handler = handler_of(found)
        if handler is None:
            raise ApiError(501, message=f"{found.id} is not offered by the local cloud.")
        fault = self._faults.take(found.id)
        if fault:
            chaos.refuse(fault)
            await asyncio.sleep(fault.seconds)
        self._faults.check_disk(found.http_method, found.id)
        params = path_params | _query(found, query)
        if caller.email is not None:
            await run_sync(permissions.check_call, self._cloud, caller.email, found.id, params)
        body = {} if upload else await read_message(request, found)
        call = Call(found, params, body, self._cloud, request, upload)
        answer: Answer
        if inspect.iscoroutinefunction(handler):
            answer = await handler(call)
        else:
            answer = await run_sync(handler, call)  # type: ignore[arg-type]
        if caller.email is not None and permissions.is_test(found.id):
            answer = await run_sync(permissions.told, self._cloud, caller.email, params, answer)
        if fault and fault.kind == "lost":
            raise chaos.HangUp
        return _response(answer, params)

    def _match(self, http_method: str, raw_path: str) -> tuple[Method | None, dict[str, str], bool]:
        """The method that a path without leading slash belongs to, the path's parameters, and whether it is an upload."""
        upload = False
        path = raw_path.rstrip("/")
        for prefix in ("resumable/upload/", "upload/", "download/"):
            if path.startswith(prefix + "storage/"):
                path = path[len(prefix) :]
                upload = prefix != "download/"
                http_method = "POST" if upload else http_method
        found = self._router.find(http_method, path)
        return found, found.path_parameters(path) if found else {}, upload

    def _match_quick(self, raw_path: bytes) -> tuple[Method | None, Quick | None, dict[str, str]]:
        """As `_match` for GET, with the handler if it runs in the event loop."""
        found, params, upload = self._match("GET", raw_path.decode("ascii").lstrip("/"))
        handler = handler_of(found) if found and not upload else None
        return found, handler if inspect.iscoroutinefunction(handler) else None, params

    async def _sign_in(self, request: Request) -> Response:
        """`{"url"}`: a link that opens the pages, or that of the `job` that the body names, in a browser, once."""
        if request.method != "POST":
            raise ApiError(405, message=f"/{SIGN_IN} takes POST.")
        body = await read_json(request)
        job = body.get("job")
        if job is not None and not (isinstance(job, str) and job.isascii() and job.replace("_", "").isalnum()):
            raise invalid("job must be the number of a job.", field_path="job")
        return JSONResponse({"url": self._dashboard.link(job)}, headers={"Cache-Control": "no-store"})

    async def _chaos(self, request: Request) -> dict[str, Any]:
        if request.method == "DELETE":
            self._faults.clear()
        elif request.method == "POST":
            body = await read_json(request)
            if "action" in body:
                return await run_sync(chaos.strike, self._cloud, body)
            if "skew" in body:
                self._cloud.skew = chaos.read_skew(body)
            elif body.get("disk") == "full":
                self._faults.fill_disk()
            else:
                self._faults.add(chaos.read_fault(body, lambda: [each.id for each in self._router.methods]))
        elif request.method != "GET":
            raise ApiError(405, message=f"/{chaos.PATH} takes GET, POST and DELETE.")
        return self._faults.state()

    async def _caller(self, request: Request) -> identity.Caller:
        """Whose token the request has. Raises ApiError 401."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        token = token.strip() if scheme.lower() == "bearer" else ""
        if identity.is_owner(self._cloud, token):
            return identity.OWNER
        caller = await run_sync(identity.caller_of_job, self._cloud, token)
        if caller is None:
            raise ApiError(
                401,
                message="Request had invalid authentication credentials. The local cloud wants its own access token: "
                'run `eval "$(odcloud local env)"`.',
            )
        return caller

    def _check_host(self, request: Request) -> None:
        """Keeps web pages out: another site's name that resolves to this address, or a script on another site's page."""
        if request.headers.get("host", "").lower() not in self._hosts:
            port = request.scope["server"][1]
            raise ApiError(403, message=f"The Host header must be {HOST}:{port} or localhost:{port}.")
        origin = request.headers.get("origin")
        if origin is not None and origin.lower() not in {f"http://{name}" for name in self._hosts}:
            raise ApiError(403, message="Requests from other origins are refused.")


def _response(answer: Answer, params: dict[str, Any]) -> Response:
    if isinstance(answer, Response):
        return answer
    cut = masks.select(answer, params["fields"]) if params.get("fields") else answer
    return Response(to_json(cut), media_type="application/json")  # several times as quick as Python's own


@lru_cache(1)
def _http_date(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()


def _in_one_step(answering: Coroutine[Any, Any, Answer]) -> Answer:
    """What a coroutine returns that never waits. Raises BlockingIOError when it would."""
    try:
        answering.send(None)
    except StopIteration as done:
        answer: Answer = done.value
        return answer
    answering.close()
    raise BlockingIOError


def _query(found: Method, query: bytes) -> dict[str, Any]:
    return found.query_parameters(parse_qsl(query.decode("latin-1"), keep_blank_values=True) if query else [])


def _is_full(error: Exception) -> bool:
    """Whether a write failed for lack of space (or of quota, or at the limit of a file's size)."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return isinstance(error, sqlite3.OperationalError) and "is full" in str(error)


def _error_response(error: ApiError, storage: bool) -> JSONResponse:
    headers = {"WWW-Authenticate": 'Bearer realm="odcloud"'} if error.code == 401 else error.headers
    return JSONResponse(error.body(storage=storage), status_code=error.code, headers=headers)

"""The local cloud's HTTP server: every API on one loopback port."""

from __future__ import annotations

import asyncio
import errno
import importlib
import inspect
import json
import logging
import os
import socket
import sqlite3
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qsl, unquote

import uvicorn
import uvloop
from anyio.to_thread import current_default_thread_limiter, run_sync
from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from localcloud import batch, chaos, credentials, identity, masks, metadata, permissions
from localcloud.api import Answer, ApiError, Call, handler_of, invalid
from localcloud.cloud import Cloud, open_cloud, rfc3339
from localcloud.dashboard.app import SIGN_IN, Dashboard
from localcloud.dashboard.client import Client
from localcloud.discovery import DOCUMENTS, Method, Router
from localcloud.home import HOST, Home, Running
from localcloud.runner import JobRunner
from localcloud.services.objects import read_public_path

SERVICES = (
    "storage",
    "uploads",
    "copies",
    "iam",
    "workloadidentity",
    "projects",
    "serviceusage",
    "billing",
    "budgets",
    "artifactregistry",
    "operations",
    "vertex",
    "mlengine",
    "logging",
)
BODY_LIMIT = 32 * 2**20  # bytes of a JSON body; media is streamed and has no limit
THREADS = 64

log = logging.getLogger("localcloud")
_held: list[Any] = []


def load_services() -> None:
    """Imports every service, which registers its handlers and its tables."""
    for name in SERVICES:
        importlib.import_module(f"localcloud.services.{name}")


class _Api:
    """The ASGI endpoint that turns a request into a call of a handler."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._faults = chaos.Faults(cloud)
        self._router = Router(DOCUMENTS, lambda found: handler_of(found) is not None)
        self._dashboard = Dashboard(Client(cloud, self._router.methods))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        try:
            response = await self._respond(request)
        except chaos.HangUp:
            await _hang_up(receive)
            return
        response.headers["Date"] = format_datetime(self._cloud.now(), usegmt=True)
        await response(scope, receive, send)

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
        if raw_path == "healthz" and request.method in ("GET", "HEAD"):
            _check_host(request)
            return JSONResponse({"status": "ok"})
        _check_host(request)
        if raw_path == credentials.PATH and request.method == "POST":
            return JSONResponse(credentials.exchange(await _read(request), self._cloud.token))
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
            return await batch.answer(request, await _read(request), self._respond)
        upload = False
        http_method = request.method
        path = raw_path.rstrip("/")
        for prefix in ("resumable/upload/", "upload/", "download/"):
            if path.startswith(prefix + "storage/"):
                path = path[len(prefix) :]
                upload = prefix != "download/"
                http_method = "POST" if upload else http_method
        found = self._router.find(http_method, path)
        if found is None and request.method in ("GET", "HEAD"):
            if caller.email is not None:
                owner = {"bucket": unquote(path.partition("/")[0])}
                await run_sync(permissions.check_call, self._cloud, caller.email, "storage.objects.get", owner)
            answered = await run_sync(read_public_path, self._cloud, request, path)
            if answered is not None:
                return answered
        if found is None or (upload and "mediaUpload" not in found.description):
            raise ApiError(404, message=f"The requested URL {request.method} /{raw_path} was not found on this server.")
        handler = handler_of(found)
        if handler is None:
            raise ApiError(501, message=f"{found.id} is not offered by the local cloud.")
        fault = self._faults.take(found.id)
        if fault:
            chaos.refuse(fault)
            await asyncio.sleep(fault.seconds)
        self._faults.check_disk(http_method, found.id)
        params = found.path_parameters(path) | found.query_parameters(_query(request))
        if caller.email is not None:
            await run_sync(permissions.check_call, self._cloud, caller.email, found.id, params)
        body = {} if upload else await _read_body(request, found)
        call = Call(found, params, body, self._cloud, request, upload)
        answer: Answer
        if inspect.iscoroutinefunction(handler):
            answer = await handler(call)
        else:
            answer = await run_sync(handler, call)  # type: ignore[arg-type]
        if fault and fault.kind == "lost":
            raise chaos.HangUp
        if isinstance(answer, Response):
            return answer
        cut = masks.select(answer, params["fields"]) if params.get("fields") else answer
        return Response(to_json(cut), media_type="application/json")  # several times as quick as Python's own

    async def _sign_in(self, request: Request) -> Response:
        """`{"url"}`: a link that opens the pages, or that of the `job` that the body names, in a browser, once."""
        if request.method != "POST":
            raise ApiError(405, message=f"/{SIGN_IN} takes POST.")
        body = await _read_json(request)
        job = body.get("job")
        if job is not None and not (isinstance(job, str) and job.isascii() and job.replace("_", "").isalnum()):
            raise invalid("job must be the number of a job.", field_path="job")
        return JSONResponse({"url": self._dashboard.link(job)}, headers={"Cache-Control": "no-store"})

    async def _chaos(self, request: Request) -> dict[str, Any]:
        if request.method == "DELETE":
            self._faults.clear()
        elif request.method == "POST":
            body = await _read_json(request)
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


def _query(request: Request) -> list[tuple[str, str]]:
    text = request.scope["query_string"].decode("latin-1")
    return parse_qsl(text, keep_blank_values=True) if text else []


def _check_host(request: Request) -> None:
    """Keeps web pages out: another site's name that resolves to this address, or a script on another site's page."""
    port = request.scope["server"][1]
    names = {f"{name}:{port}" for name in (HOST, "localhost")}
    if request.headers.get("host", "").lower() not in names:
        raise ApiError(403, message=f"The Host header must be {HOST}:{port} or localhost:{port}.")
    origin = request.headers.get("origin")
    if origin is not None and origin.lower() not in {f"http://{name}" for name in names}:
        raise ApiError(403, message="Requests from other origins are refused.")


async def _hang_up(receive: Receive) -> None:
    """Resets the connection of a request: uvicorn offers no way but the transport behind its `receive`."""
    transport = receive.__self__.transport  # type: ignore[attr-defined]
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    while (await receive())["type"] != "http.disconnect":
        pass


def _is_full(error: Exception) -> bool:
    """Whether a write failed for lack of space (or of quota, or at the limit of a file's size)."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return isinstance(error, sqlite3.OperationalError) and "is full" in str(error)


async def _read_json(request: Request) -> dict[str, Any]:
    """The body of one of the local cloud's own calls."""
    try:
        body = json.loads(await _read(request) or b"{}")
    except ValueError as error:
        raise invalid(f"Invalid JSON payload received. {error}") from error
    if not isinstance(body, dict):
        raise invalid("Invalid JSON payload received. Root element must be a message.")
    return body


async def _read(request: Request) -> bytes:
    chunks = bytearray()
    async for chunk in request.stream():
        chunks += chunk
        if len(chunks) > BODY_LIMIT:
            raise ApiError(413, message=f"The request body is larger than {BODY_LIMIT} bytes.")
    return bytes(chunks)


async def _read_body(request: Request, found: Method) -> dict[str, Any]:
    chunks = await _read(request) if "request" in found.description else b""
    if not chunks:
        return {}
    try:
        parsed = json.loads(chunks)
    except ValueError as error:
        raise invalid(f"Invalid JSON payload received. {error}") from error
    return found.read_body(parsed)


def _error_response(error: ApiError, storage: bool) -> JSONResponse:
    headers = {"WWW-Authenticate": 'Bearer realm="odcloud"'} if error.code == 401 else None
    return JSONResponse(error.body(storage=storage), status_code=error.code, headers=headers)


def create_app(cloud: Cloud) -> ASGIApp:
    """The application; the runner, if the cloud has one, starts and stops with it."""
    api = _Api(cloud)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        current_default_thread_limiter().total_tokens = THREADS
        if cloud.runner is not None:
            await run_sync(cloud.runner.start)
        yield
        if cloud.runner is not None:
            await run_sync(cloud.runner.stop)

    rest = Starlette(lifespan=lifespan)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        # there is one route, and finding it would take longer than many a call does
        await (api if scope["type"] == "http" else rest)(scope, receive, send)

    return app


def end_abandoned(home: Home) -> None:
    """Ends the replicas that a killed server has left. The caller holds the home's lock."""
    load_services()
    cloud = open_cloud(home, "")
    runner = JobRunner(cloud)
    runner.start()
    runner.stop()
    cloud.close()


def serve(home: Home, listener: socket.socket, lock: Any) -> None:
    """Serves on a bound socket until SIGTERM or SIGINT. `lock` is the home's lock: it goes with the process, and not before."""
    _held.append(lock)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    load_services()
    port = listener.getsockname()[1]
    cloud = open_cloud(home, f"http://{HOST}:{port}")
    cloud.runner = JobRunner(cloud)
    credentials.write_file(home, cloud.base_url)
    config = uvicorn.Config(
        create_app(cloud),
        log_config=None,
        access_log=False,
        date_header=False,  # the cloud's own clock tells it, which may be wrong on request
        server_header=False,
        lifespan="on",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)

    async def run() -> None:
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started and not task.done():
            await asyncio.sleep(0.01)
        if server.started:
            home.write_running(Running(os.getpid(), port, rfc3339(cloud.now())))
        await task

    try:
        uvloop.run(run())
    finally:
        home.server_file.unlink(missing_ok=True)
        cloud.close()
    if not server.started:
        sys.exit(3)

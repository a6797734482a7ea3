"""The local cloud's process: every API on one loopback port."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import os
import signal
import socket
import sqlite3
import sys
from collections.abc import Callable
from typing import Any

import uvicorn
import uvloop
from anyio.to_thread import current_default_thread_limiter, run_sync
from starlette.types import Receive, Scope, Send

from localcloud import credentials
from localcloud.cloud import Cloud, open_cloud, rfc3339
from localcloud.connection import Connection
from localcloud.database import Database
from localcloud.endpoint import Endpoint
from localcloud.errors import LocalCloudError
from localcloud.home import HOST, Home, Running
from localcloud.jobs import replica
from localcloud.runner import JobRunner

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
THREADS = 64

log = logging.getLogger("localcloud")
_held: list[Any] = []


def load_services() -> None:
    """Imports every service, which registers its handlers and its tables."""
    for name in SERVICES:
        importlib.import_module(f"localcloud.services.{name}")


class App:
    """The ASGI application; the runner, if the cloud has one, starts and stops with it."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._endpoint = Endpoint(cloud)
        self.at_once = self._endpoint.at_once

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._endpoint(scope, receive, send)
        else:
            await self._live(receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """ASGI's lifespan."""
        await receive()
        current_default_thread_limiter().total_tokens = THREADS
        if self._cloud.runner is not None:
            await run_sync(self._cloud.runner.start)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if self._cloud.runner is not None:
            await run_sync(self._cloud.runner.stop)
        await send({"type": "lifespan.shutdown.complete"})


def configured(cloud: Cloud, **options: Any) -> uvicorn.Config:
    """How uvicorn serves a cloud."""
    return uvicorn.Config(
        App(cloud),
        http=Connection,
        ws="none",
        interface="asgi3",
        proxy_headers=False,
        log_config=None,
        access_log=False,
        date_header=False,  # the cloud's own clock tells it, which may be wrong on request
        server_header=False,
        lifespan="on",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=5,
        **options,
    )


def end_abandoned(home: Home) -> None:
    """Ends the replicas that a killed server has left, also where its database is damaged. The caller holds the home's lock."""
    load_services()
    try:
        cloud = Cloud(home.path, Database(home.database_file), token="", base_url="")
        runner = JobRunner(cloud)
        runner.start()
        runner.stop()
        cloud.close()
    except (LocalCloudError, OSError, sqlite3.Error):  # which the next start tells
        replica.kill_all(home.path)


def serve(home: Home, listener: socket.socket, lock: Any, announce: Callable[[str], None]) -> None:
    """Serves on a bound socket until SIGTERM, SIGHUP or SIGINT. Raises LocalCloudError.

    `lock` is the home's lock: it goes with the process, and not before. `announce` is told the URL when the database is open.
    """
    _held.append(lock)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    load_services()
    port = listener.getsockname()[1]
    cloud = open_cloud(home, f"http://{HOST}:{port}")
    cloud.runner = JobRunner(cloud)
    credentials.write_file(home, cloud.base_url)
    server = uvicorn.Server(configured(cloud))
    gc.freeze()  # the documents live as long as the process: not to be looked through again and again
    # Also a terminal's end is one for which replicas are ended. uvicorn raises a signal again when it has done what it can for
    # it; what is left to be done here must not be kept from it.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, server.handle_exit)
    announce(cloud.base_url)

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

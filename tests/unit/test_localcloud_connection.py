"""The connection of the local cloud, where a client goes away at the worst moment."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import uvicorn
import uvloop
from uvicorn.server import ServerState

from localcloud.connection import Connection, hang_up


class _Late:
    """An application that begins an answer, waits until the client is gone, and only then goes on with it."""

    def __init__(self, file: Path, end: str) -> None:
        self._file, self._end = file, end
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def at_once(self, scope: Any) -> None:
        return None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            size = self._file.stat().st_size
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % size)]})
            while (await receive())["type"] != "http.disconnect":
                pass
            if self._end == "reset":
                await hang_up(scope, receive)
            else:
                with self._file.open("rb") as file:
                    await scope["state"]["send_file"](file.fileno(), 0, size)
                await send({"type": "http.response.body"})
        except BaseException as error:
            self.ended.set_exception(error)
        else:
            self.ended.set_result(None)


async def _leave(file: Path, end: str) -> None:
    app = _Late(file, end)
    config = uvicorn.Config(app, http=Connection, log_config=None)
    config.load()
    config.loaded_app.at_once = app.at_once
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(config, ServerState(), {}), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    writer.close()
    await asyncio.wait_for(app.ended, 60)
    server.close()


def test_a_file_is_not_sent_to_who_has_gone(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 1_000_000)
    uvloop.run(_leave(file, "send"))


def test_who_has_gone_is_not_hung_up_on(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    uvloop.run(_leave(file, "reset"))

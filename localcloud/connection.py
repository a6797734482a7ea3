"""uvicorn's HTTP/1.1 connection, with what it does not offer: answers without a task, files sent by the kernel, a reset, an end
to endless headers.

A small read takes less time than a task of the event loop for it would, and the kernel sends a file without copying it twice.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from functools import partial
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

PIECE = 1 << 20  # bytes sent before other connections have their turn
LONGEST_HEAD = 1 << 20  # bytes of a request's head: it is kept in memory before anything says who sends it


class Connection(HttpToolsProtocol):
    """Asks the application's `at_once` first, and gives each request that needs a task `reset` and `send_file` in its
    `scope["state"]`."""

    _head: int | None = None  # bytes that have come of a head that is not whole yet

    def on_message_begin(self) -> None:
        self._head = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head = None
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head is not None:
            self._head += len(data)
            if self._head > LONGEST_HEAD and not self.transport.is_closing():
                self.transport.write(STATUS_LINE[431] + b"connection: close\r\ncontent-length: 0\r\n\r\n")
                self.transport.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if not cycle.keep_alive or self.flow.write_paused or cycle.waiting_for_100_continue:
            answer = None
        else:
            answer = self.config.app.at_once(cycle.scope)  # type: ignore[union-attr]
        if type(answer) is Response:
            self._write(cycle, answer)
        else:
            cycle.scope["state"].update(reset=self._reset, send_file=partial(self._send_file, cycle))
            super()._start_asgi_task(cycle, answer or app)

    def _write(self, cycle: RequestResponseCycle, answer: Response) -> None:
        head = [STATUS_LINE[answer.status_code], *(b"%b: %b\r\n" % each for each in answer.raw_headers), b"\r\n"]
        text = b"".join(head)
        if text.count(b"\n") != len(head) or text.count(b"\r") != len(head):
            raise ValueError("a header contains a line's end")
        self.transport.write(text + answer.body)
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        cycle.on_response()

    async def _send_file(self, cycle: RequestResponseCycle, descriptor: int, first: int, count: int) -> None:
        """Sends the body of an answer, whose head is sent, from an open file. Raises OSError when the file is shorter."""
        if self._gone(cycle):
            return
        self.transport.set_write_buffer_limits(0)  # so that `drain` waits until the head is gone
        try:
            await self.flow.drain()
            if self._gone(cycle):
                return
            # a transport does not share its descriptor with others who wait for it
            outgoing = os.dup(self.transport.get_extra_info("socket").fileno())
            try:
                while count and not cycle.disconnected:
                    try:
                        sent = os.sendfile(outgoing, descriptor, first, min(count, PIECE))
                    except BlockingIOError:
                        await self._writable(outgoing)
                        continue
                    except (BrokenPipeError, ConnectionResetError):
                        cycle.disconnected = True
                        return
                    if not sent:
                        raise OSError("the file became shorter while it was read")
                    first, count = first + sent, count - sent
                    cycle.expected_content_length -= sent
                    await asyncio.sleep(0)
            finally:
                os.close(outgoing)
        finally:
            if not self._gone(cycle):
                self.transport.set_write_buffer_limits()

    def _gone(self, cycle: RequestResponseCycle) -> bool:
        """Whether the peer has gone away: a closed transport takes no call more."""
        cycle.disconnected = cycle.disconnected or self.transport.is_closing()
        return self.transport.is_closing()

    async def _writable(self, descriptor: int) -> None:
        ready = asyncio.Event()
        self.loop.add_writer(descriptor, ready.set)
        try:
            await ready.wait()
        finally:
            self.loop.remove_writer(descriptor)

    def _reset(self) -> None:
        """Ends the connection so that the peer sees it reset."""
        if not self.transport.is_closing():
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


async def hang_up(scope: Scope, receive: Receive) -> None:
    """Resets the connection of a request, which gets no answer."""
    scope["state"]["reset"]()
    while (await receive())["type"] != "http.disconnect":
        pass

"""A bad way to Google: a gateway before a real local cloud that loses, delays and refuses what it is told to."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LOSE_ANSWER, LOSE_REQUEST, RESET = "lose the answer", "lose the request", "reset the connection while answering"
DELAY = 1.5
"""Seconds after which a request is carried out that its client has given up, for a trouble of this value."""
Trouble = str | int | float
"""One of the above, an HTTP status to answer with, or DELAY."""


class Gateway(ThreadingHTTPServer):
    """Passes requests on to `port`; those whose verb and path end as `where` says meet the next of `troubles` first.

    `weather` decides for each of the others: (verb, path) -> a trouble or None.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.port = port
        self.where = ("", "")
        self.troubles: list[Trouble] = []
        self.weather: Callable[[str, str], Trouble | None] = lambda verb, path: None
        self.answers: dict[tuple[str, str], tuple[int, bytes]] = {}
        self.late: list[threading.Thread] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def overrides(self) -> dict[str, str]:
        """The environment of a launcher that goes this way."""
        return {f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{name}": self.url for name in ("AIPLATFORM", "STORAGE", "LOGGING")}

    def settle(self) -> None:
        """Waits until every delayed request has been carried out."""
        for thread in self.late:
            thread.join()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is gone, killed for instance, is no news."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Gateway

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.partition("?")[0]
        canned = next(
            (said for (verb, part), said in self.server.answers.items() if verb == self.command and part in path), None
        )
        if canned:
            return self._answer(*canned)
        verb, end = self.server.where
        met = self.command == verb and path.endswith(end) and self.server.troubles
        trouble = self.server.troubles.pop(0) if met else self.server.weather(self.command, path)
        if trouble == LOSE_REQUEST:
            return self._hang_up()
        if isinstance(trouble, int):
            return self._answer(trouble, b'{"error": {"message": "Come back later.", "status": "TROUBLE"}}')
        if isinstance(trouble, float):
            late = threading.Thread(target=lambda: (time.sleep(trouble), self._onward(body)), daemon=True)
            self.server.late.append(late)
            late.start()
            return self._hang_up()
        status, content = self._onward(body)
        if trouble == LOSE_ANSWER:
            return self._hang_up()
        return self._answer(status, content, reset=trouble == RESET)

    def _onward(self, body: bytes) -> tuple[int, bytes]:
        onward = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        headers = {**self.headers, "Host": f"127.0.0.1:{self.server.port}"}
        try:
            onward.request(self.command, self.path, body=body or None, headers=headers)
            answer = onward.getresponse()
            return answer.status, answer.read()
        finally:
            onward.close()

    def _answer(self, status: int, content: bytes, reset: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if reset else content)
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True

    def _hang_up(self) -> None:
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    do_GET = do_POST = do_PUT = do_DELETE = _pass

    def log_message(self, format: str, *args: Any) -> None:
        pass

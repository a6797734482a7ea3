"""A loopback way to the local cloud for a client that sends no token: it adds one to whatever passes."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

OWN = {"host", "transfer-encoding", "content-length", "connection", "authorization"}
"""Headers of one hop, and those that are set here."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    onward: str
    token: str

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _pass(self) -> None:
        headers = {name: value for name, value in self.headers.items() if name.lower() not in OWN}
        onward = http.client.HTTPConnection(self.onward, timeout=60)
        onward.request(self.command, self.path, self._body(), {**headers, "Authorization": f"Bearer {self.token}"})
        answer = onward.getresponse()
        content = answer.read()
        onward.close()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in OWN:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _pass

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def signing(url: str, token: str) -> Iterator[str]:
    """HOST:PORT of a server that passes on to `url`."""
    handler = type("Signing", (Handler,), {"onward": urlsplit(url).netloc, "token": token})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()

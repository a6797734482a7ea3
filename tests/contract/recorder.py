"""A proxy in front of the local cloud that keeps every exchange, to be held against the discovery documents afterwards."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from discovery_check import check_request, check_response, document, methods

# In the order in which a path that several of them have is looked up.
APIS = (
    ("storage", "v1"),
    ("aiplatform", "v1"),
    ("iam", "v1"),
    ("serviceusage", "v1"),
    ("artifactregistry", "v1"),
    ("cloudresourcemanager", "v1"),
    ("cloudresourcemanager", "v3"),
    ("logging", "v2"),
)
_HOP_BY_HOP = {"connection", "host", "keep-alive", "transfer-encoding"}


@dataclass(frozen=True)
class Exchange:
    verb: str
    target: str
    content_type: str
    request: bytes
    status: int
    answer_type: str
    answer: bytes

    def check(self) -> str:
        """Holds the exchange against the documents. Returns the id of the method called; AssertionError says what is wrong."""
        url = urlsplit(self.target)
        query: dict[str, list[str]] = {}
        for name, value in parse_qsl(url.query, keep_blank_values=True):
            # the services take a field's name in the protocol buffer (repository_id) as well as in JSON (repositoryId)
            name = name if url.path.startswith(("/storage", "/upload")) else re.sub("_([a-z])", lambda m: m[1].upper(), name)
            query.setdefault(name, []).append(value)
        upload = url.path.startswith("/upload/")
        api, version, method_id, path_params = find_method(self.verb, url.path.removeprefix("/upload"))
        parameters = methods(api, version)[method_id].get("parameters", {})
        if upload:
            assert query.pop("uploadType") in (["multipart"], ["media"], ["resumable"]), self.target
            query.pop("upload_id", None)
        plain = {name: value if parameters.get(name, {}).get("repeated") else value[0] for name, value in query.items()}
        check_request(api, version, method_id, path_params, plain, self._body(upload))
        if self.status >= 400:
            self._check_error()
        elif query.get("alt") != ["media"] and self.status != 308:
            check_response(api, version, method_id, json.loads(self.answer) if self.answer else None)
        return method_id

    def calls(self) -> Iterator[Exchange]:
        """The exchange itself, or if it is a batch each call in it with its answer."""
        if urlsplit(self.target).path.lstrip("/") != document("storage", "v1")["batchPath"]:
            yield self
            return
        asked, answered = _http_parts(self.content_type, self.request), _http_parts(self.answer_type, self.answer)
        assert self.verb == "POST" and self.status == 200 and 0 < len(asked) == len(answered) <= 100, self.target
        for (line, head, body), (status, answer_head, answer) in zip(asked, answered, strict=True):
            verb, target, _ = line.split()
            kinds = head.get("Content-Type", ""), answer_head.get("Content-Type", "")
            yield Exchange(verb, target, kinds[0], body, int(status.split()[1]), kinds[1], answer)

    def _body(self, upload: bool) -> Any:
        if not self.request:
            return None
        if not upload:
            return json.loads(self.request)
        if not self.content_type.startswith("multipart/related"):
            return json.loads(self.request) if "uploadType=resumable" in self.target and self.verb == "POST" else None
        message = message_from_bytes(f"Content-Type: {self.content_type}\r\n\r\n".encode() + self.request)
        return json.loads(message.get_payload()[0].get_payload(decode=True))  # type: ignore[index, union-attr]

    def _check_error(self) -> None:
        error = json.loads(self.answer)["error"]
        assert error["code"] == self.status, error
        assert isinstance(error["message"], str), error
        assert error["message"], error


def _http_parts(content_type: str, body: bytes) -> list[tuple[str, Message, bytes]]:
    """First line, headers and body of each request or answer in a batch."""
    whole = message_from_bytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    found = []
    for part in whole.walk():
        if part.get_content_type() == "application/http":
            payload = part.get_payload(decode=True)
            assert isinstance(payload, bytes)
            line, _, rest = payload.lstrip().partition(b"\r\n")
            head, _, content = rest.partition(b"\r\n\r\n")
            found.append((line.decode(), message_from_bytes(head + b"\r\n\r\n"), content.strip()))
    return found


def find_method(verb: str, path: str) -> tuple[str, str, str, dict[str, str]]:
    """API, version, method id and path parameters (percent-encoding removed) of a request.

    Where several methods of an API fit (`v1/{+name}` fits `v1/{+resource}:getIamPolicy` too), the one that says most wins.
    """
    for api, version in APIS:
        base = "/" + document(api, version)["servicePath"]
        if not path.startswith(base):
            continue
        fitting = [
            (len(re.sub(r"\{[^}]*\}", "", method["path"])), method_id, found)
            for method_id, method in methods(api, version).items()
            if method["httpMethod"] == verb and (found := _match(method, path.removeprefix(base))) is not None
        ]
        if fitting:
            _, method_id, found = max(fitting, key=lambda fit: fit[0])
            return api, version, method_id, found
    raise AssertionError(f"no method of the documents is {verb} {path}")


def _match(method: dict[str, Any], path: str) -> dict[str, str] | None:

    names: list[str] = []
    pattern = ""
    for literal, plus, name in re.findall(r"([^{]*)(?:\{(\+?)([^}]+)\})?", method["path"]):
        pattern += re.escape(literal)
        if name:
            names.append(name)
            pattern += "(.+)" if plus else "([^/]+)"
    match = re.fullmatch(pattern, path)
    if not match:
        return None
    found = dict(zip(names, map(unquote, match.groups()), strict=True))
    # `v1/{+name}` of one resource also fits another's path; the parameter's own pattern tells them apart
    patterns = {name: method["parameters"][name].get("pattern", ".*") for name in found}
    return found if all(re.search(patterns[name], value) for name, value in found.items()) else None


@contextmanager
def recording(address: str) -> Iterator[tuple[str, list[Exchange]]]:
    """Address (`http://127.0.0.1:PORT`) of a proxy to `address`, and the exchanges that have gone through it so far."""
    upstream = urlsplit(address).netloc
    exchanges: list[Exchange] = []

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            request = self._read()
            connection = HTTPConnection(upstream, timeout=120)
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
            headers |= {"Host": upstream}
            if request or self.command != "GET":
                headers["Content-Length"] = str(len(request))
            connection.request(self.command, self.path, request or None, headers)
            answer = connection.getresponse()
            body = answer.read()
            connection.close()
            content_type = self.headers.get("Content-Type", "")
            answer_type = answer.getheader("Content-Type", "")
            exchanges.append(Exchange(self.command, self.path, content_type, request, answer.status, answer_type, body))
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _HOP_BY_HOP | {"content-length", "date", "server"}:
                    self.send_header(name, value.replace(address, f"http://{self.headers['Host']}"))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _read(self) -> bytes:
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = forward

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", exchanges
        finally:
            server.shutdown()
            thread.join()

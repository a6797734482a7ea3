"""REST calls to the endpoints that the environment names, with the environment's token."""

from __future__ import annotations

import hashlib
import json
import os
import urllib.parse
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from email.parser import BytesParser
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any

from localcloud.pulumi_provider.errors import ProviderError

START = 'start it with `odcloud local start` and set the environment with `eval "$(odcloud local env)"`'
SECONDS = 120
CHUNK = 1 << 20
BOUNDARY = "odcloud-object-boundary"


class Refused(ProviderError):
    """4xx: nothing was done."""


class NotFound(Refused):
    """404: the resource is not there."""


class Conflict(Refused):
    """409: it exists already, or was changed meanwhile."""


def quote(name: str) -> str:
    """A name as one segment of a path."""
    return urllib.parse.quote(name, safe="")


class Api:
    """One service's endpoint. `name` as in GOOGLE_<NAME>_CUSTOM_ENDPOINT; what it holds ends with the version's path."""

    def __init__(self, name: str) -> None:
        self.variable = f"GOOGLE_{name}_CUSTOM_ENDPOINT"

    @property
    def base(self) -> urllib.parse.SplitResult:
        value = os.environ.get(self.variable)
        if not value:
            raise ProviderError(f"{self.variable} is not set, and this provider serves the local cloud only: {START}")
        return urllib.parse.urlsplit(value.rstrip("/"))

    def call(self, verb: str, path: str, query: Mapping[str, Any] | None = None, body: object = None) -> dict[str, Any]:
        """One request with a JSON body, relative to the endpoint; the answer's JSON.

        Raises:
            NotFound, Conflict, ProviderError: in the service's own words.
        """
        content = None if body is None else json.dumps(body).encode()
        return self._send(verb, f"{self.base.path}/{path}", query, content, "application/json")

    def upload(self, path: str, query: Mapping[str, Any], metadata: Mapping[str, Any], file: Path) -> dict[str, Any]:
        """One multipart upload of a file, streamed (`/upload` before the endpoint's path).

        Raises:
            ProviderError: as `call`, or the file cannot be read, or other bytes arrived than were sent.
        """
        digest = hashlib.md5(usedforsecurity=False)

        def parts() -> Iterator[bytes]:
            head = json.dumps(metadata)
            yield f"--{BOUNDARY}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{head}\r\n".encode()
            kind = metadata.get("contentType", "application/octet-stream")
            yield f"--{BOUNDARY}\r\nContent-Type: {kind}\r\n\r\n".encode()
            with file.open("rb") as content:
                while chunk := content.read(CHUNK):
                    digest.update(chunk)
                    yield chunk
            yield f"\r\n--{BOUNDARY}--\r\n".encode()

        if not file.is_file():
            raise ProviderError(f"{file}: not found")
        made = self._send(
            "POST",
            f"/upload{self.base.path}/{path}",
            {**query, "uploadType": "multipart"},
            parts(),
            f"multipart/related; boundary={BOUNDARY}",
        )
        sent = b64encode(digest.digest()).decode()
        if made.get("md5Hash") != sent:
            raise ProviderError(f"{file}: the object that arrived is not the file (MD5 {made.get('md5Hash')}, not {sent})")
        return made

    def batch(self, verb: str, paths: Sequence[str]) -> Iterator[dict[str, Any] | ProviderError]:
        """Up to 100 calls without a body in one request, which only Cloud Storage takes in this form; the answers in the
        order of the paths, a refusal as the error that `call` would raise.

        Raises:
            ProviderError: the batch as a whole is not answered.
        """
        whole = [f"{self.base.path}/{path}" for path in paths]
        head = f"--{BOUNDARY}\r\nContent-Type: application/http\r\n\r\n"
        content = "".join(f"{head}{verb} {path} HTTP/1.1\r\n\r\n\r\n" for path in whole) + f"--{BOUNDARY}--\r\n"
        kind = f"multipart/mixed; boundary={BOUNDARY}"
        answer, data = self._exchange("POST", f"/batch{self.base.path}", None, content.encode(), kind)
        if answer.status != 200:
            self._read("a batch", answer.status, data)
        parsed = BytesParser().parsebytes(b"Content-Type: " + answer.headers["Content-Type"].encode() + b"\r\n\r\n" + data)
        parts = [part for part in parsed.walk() if part.get_content_type() == "application/http"]
        if len(parts) != len(whole):
            raise ProviderError(f"a batch of {len(whole)} calls has {len(parts)} answers")
        for path, part in zip(whole, parts, strict=True):
            status, _, rest = bytes(part.get_payload(decode=True)).lstrip().partition(b"\r\n")
            try:
                yield self._read(f"{verb} {path}", int(status.split()[1]), rest.partition(b"\r\n\r\n")[2].strip())
            except ProviderError as error:
                yield error

    def _send(
        self, verb: str, path: str, query: Mapping[str, Any] | None, content: bytes | Iterator[bytes] | None, kind: str
    ) -> dict[str, Any]:
        answer, data = self._exchange(verb, path, query, content, kind)
        return self._read(f"{verb} {path}", answer.status, data)

    def _exchange(
        self, verb: str, path: str, query: Mapping[str, Any] | None, content: bytes | Iterator[bytes] | None, kind: str
    ) -> tuple[HTTPResponse, bytes]:
        base = self.base
        headers = {"Authorization": f"Bearer {os.environ.get('GOOGLE_OAUTH_ACCESS_TOKEN', '')}"}
        if content is not None:
            headers["Content-Type"] = kind
        address = path + ("?" + urllib.parse.urlencode(query) if query else "")
        connect = HTTPSConnection if base.scheme == "https" else HTTPConnection
        connection = connect(base.netloc, timeout=SECONDS)
        try:
            connection.request(verb, address, content, headers, encode_chunked=not isinstance(content, bytes | None))
            answer = connection.getresponse()
            return answer, answer.read()
        except (OSError, HTTPException) as error:
            raise ProviderError(f"the local cloud is not reached at {base.scheme}://{base.netloc} ({error}): {START}") from None
        finally:
            connection.close()

    @staticmethod
    def _read(what: str, status: int, data: bytes) -> dict[str, Any]:
        try:
            body = json.loads(data) if data else {}
        except ValueError:
            raise ProviderError(f"{what}: answered {status} without JSON; is another program on that port?") from None
        if status < 300:
            return dict(body)
        error = body.get("error") if isinstance(body, dict) else None
        words = error.get("message", "") if isinstance(error, dict) else str(body)
        kind = {404: NotFound, 409: Conflict}.get(status, Refused if status < 500 else ProviderError)
        raise kind(f"{what}: {status} {words}")


STORAGE = Api("STORAGE")
IAM = Api("IAM")
PROJECTS = Api("RESOURCE_MANAGER")
SERVICES = Api("SERVICE_USAGE")
REPOSITORIES = Api("ARTIFACT_REGISTRY")
POOLS = Api("IAM_BETA")
BUDGETS = Api("BILLING")


def finish(api: Api, operation: Mapping[str, Any]) -> dict[str, Any]:
    """The response of a long-running operation, waited for.

    Raises:
        ProviderError: the operation failed or does not end.
    """
    import time

    deadline = time.monotonic() + SECONDS
    while not operation.get("done"):
        if time.monotonic() > deadline:
            raise ProviderError(f"{operation.get('name')}: not done after {SECONDS} s")
        time.sleep(0.2)
        operation = api.call("GET", operation["name"])
    if "error" in operation:
        raise ProviderError(f"{operation.get('name')}: {operation['error'].get('message', operation['error'])}")
    return dict(operation.get("response", {}))

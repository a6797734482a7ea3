"""The dashboard as a client of the APIs, without the way over HTTP: it shows what every client is told."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from anyio import from_thread
from starlette.requests import Request
from starlette.responses import Response

from localcloud.api import Answer, Call, handler_of
from localcloud.cloud import Cloud
from localcloud.discovery import Method


class Client:
    """Calls handlers by discovery id, from a thread of the server's pool. Raises what they raise (ApiError)."""

    def __init__(self, cloud: Cloud, methods: Iterable[Method]) -> None:
        self.cloud = cloud
        self._methods: dict[str, Method] = {}
        for method in methods:
            self._methods.setdefault(method.id, method)

    def answer(self, request: Request, method_id: str, body: dict[str, Any] | None = None, **params: Any) -> Answer:
        """What the method answers: JSON, or a response of its own, made for the headers of `request` (a Range, say)."""
        method = self._methods[method_id]
        handler = handler_of(method)
        if handler is None:
            raise LookupError(f"{method_id} is not offered by the local cloud")
        call = Call(method, params, body or {}, self.cloud, request)
        if inspect.iscoroutinefunction(handler):
            found: Answer = from_thread.run(handler, call)
            return found
        return handler(call)  # type: ignore[return-value]

    def json(self, method_id: str, body: dict[str, Any] | None = None, **params: Any) -> dict[str, Any]:
        """The JSON that the method answers."""
        nothing = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": []}
        found = self.answer(Request(nothing), method_id, body, **params)
        if isinstance(found, Response):
            raise TypeError(f"{method_id} answered with content of its own")
        return found

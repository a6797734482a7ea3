"""What a service author needs: register a function for a method of Google's API, read the call, answer or refuse.

    @method("aiplatform.projects.locations.customJobs.create")
    def create(call: Call) -> dict[str, Any]: ...

Paths, parameters and bodies come from the discovery documents, so a handler sees only calls that the document allows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from localcloud.errors import ApiError, invalid, not_found

if TYPE_CHECKING:
    from localcloud.cloud import Cloud
    from localcloud.discovery import Method

__all__ = ["Answer", "ApiError", "Call", "Handler", "handler_of", "handlers", "invalid", "method", "not_found"]

Answer = dict[str, Any] | Response
Handler = Callable[["Call"], Answer | Awaitable[Answer]]
_AnyHandler = TypeVar("_AnyHandler", bound=Callable[..., Any])

handlers: dict[str, Handler] = {}


@dataclass(frozen=True)
class Call:
    """One request. `params`: path and query parameters, typed by the document, repeated ones as lists, absent ones missing.
    `body`: validated JSON ({} when there is none; unread for uploads: read `request` instead)."""

    method: Method
    params: dict[str, Any]
    body: dict[str, Any]
    cloud: Cloud
    request: Request
    upload: bool = field(default=False)


def method(*ids: str) -> Callable[[_AnyHandler], _AnyHandler]:
    """Registers a function (`def`: run in a thread; `async def`: run in the event loop) for methods, by discovery id.

    `cloudresourcemanager` has two versions with the same ids: write `cloudresourcemanager.v3:projects.get`-like ids as
    `cloudresourcemanager.projects.get@v3`; without `@` the function serves every version.
    """

    def register(function: _AnyHandler) -> _AnyHandler:
        for method_id in ids:
            if method_id in handlers and handlers[method_id] is not function:
                raise ValueError(f"{method_id} has two handlers")
            handlers[method_id] = function
        return function

    return register


def handler_of(called: Method) -> Handler | None:
    return handlers.get(f"{called.id}@{called.version}") or handlers.get(called.id)

"""What a service author needs: register a function for a method of Google's API, read the call, answer or refuse.

    @method("aiplatform.projects.locations.customJobs.create")
    def create(call: Call) -> dict[str, Any]: ...

Paths, parameters and bodies come from the discovery documents, so a handler sees only calls that the document allows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

if TYPE_CHECKING:
    from localcloud.cloud import Cloud
    from localcloud.discovery import Method

Answer = dict[str, Any] | Response
Handler = Callable[["Call"], Answer | Awaitable[Answer]]
_AnyHandler = TypeVar("_AnyHandler", bound=Callable[..., Any])

handlers: dict[str, Handler] = {}

# canonical code for an HTTP status (google.rpc.Code), and the word the older storage API uses for it
_STATUS = {
    400: ("INVALID_ARGUMENT", "invalid"),
    401: ("UNAUTHENTICATED", "authError"),
    403: ("PERMISSION_DENIED", "forbidden"),
    404: ("NOT_FOUND", "notFound"),
    405: ("UNIMPLEMENTED", "methodNotAllowed"),
    409: ("ABORTED", "conflict"),
    410: ("NOT_FOUND", "gone"),
    411: ("INVALID_ARGUMENT", "required"),
    412: ("FAILED_PRECONDITION", "conditionNotMet"),
    413: ("INVALID_ARGUMENT", "uploadTooLarge"),
    416: ("OUT_OF_RANGE", "requestedRangeNotSatisfiable"),
    429: ("RESOURCE_EXHAUSTED", "rateLimitExceeded"),
    500: ("INTERNAL", "internalError"),
    501: ("UNIMPLEMENTED", "notImplemented"),
    503: ("UNAVAILABLE", "backendError"),
    507: ("RESOURCE_EXHAUSTED", "insufficientStorage"),
}


class ApiError(Exception):
    """A refusal in Google's shape. `status` is a google.rpc.Code name (by default the usual one for the HTTP code)."""

    def __init__(
        self,
        code: int,
        status: str | None = None,
        message: str = "",
        *,
        details: Iterable[dict[str, Any]] = (),
        reason: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = status or _STATUS.get(code, ("UNKNOWN", ""))[0]
        self.message = message
        self.details = list(details)
        self.reason = reason or _STATUS.get(code, ("", "unknown"))[1]

    def body(self, *, storage: bool = False) -> dict[str, Any]:
        """`{"error": {…}}`. The storage API gives `errors` with a reason where the others give `status` and `details`."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if storage:
            error["errors"] = [{"message": self.message, "domain": "global", "reason": self.reason}]
        else:
            error["status"] = self.status
            if self.details:
                error["details"] = self.details
        return {"error": error}


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


def not_found(message: str) -> ApiError:
    return ApiError(404, "NOT_FOUND", message)


def invalid(message: str, *, field_path: str | None = None) -> ApiError:
    """400 INVALID_ARGUMENT; with `field_path` the offending field is named in `details` as well."""
    details: list[dict[str, Any]] = []
    if field_path is not None:
        violation = {"field": field_path, "description": message}
        details.append({"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [violation]})
    return ApiError(400, "INVALID_ARGUMENT", message, details=details)

"""The two kinds of refusal: what a person sees on the command line, and what a client of the APIs hears."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


class LocalCloudError(Exception):
    """A command of the local cloud cannot do what was asked; the message says what is wrong, where, and what to do."""


def told(error: OSError) -> str:
    """A refusal of the operating system in a line: which file, and what is wrong with it."""
    return ": ".join(str(part) for part in (error.filename, error.strerror or error) if part)


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
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = status or _STATUS.get(code, ("UNKNOWN", ""))[0]
        self.message = message
        self.details = list(details)
        self.reason = reason or _STATUS.get(code, ("", "unknown"))[1]
        self.headers = headers

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


def not_found(message: str) -> ApiError:
    return ApiError(404, "NOT_FOUND", message)


def invalid(message: str, *, field_path: str | None = None) -> ApiError:
    """400 INVALID_ARGUMENT; with `field_path` the offending field is named in `details` as well."""
    details: list[dict[str, Any]] = []
    if field_path is not None:
        violation = {"field": field_path, "description": message}
        details.append({"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [violation]})
    return ApiError(400, "INVALID_ARGUMENT", message, details=details)

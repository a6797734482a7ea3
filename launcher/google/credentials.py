"""Application Default Credentials; imported only where no access token is given, for the import is slow."""

from __future__ import annotations

from typing import Any

from launcher.errors import UserError
from launcher.google.transport import NotSent


def valid(credentials: Any, scope: str) -> Any:
    """The credentials (found when None is given) with an access token that is valid now.

    Raises UserError when there are none or Google refuses them, NotSent when nobody who could renew them is reached.
    """
    import google.auth
    from google.auth.exceptions import GoogleAuthError, TransportError
    from google.auth.transport.requests import Request

    try:
        if credentials is None:
            credentials, _ = google.auth.default(scopes=[scope])
        if not credentials.valid:
            credentials.refresh(Request())
    except (GoogleAuthError, OSError) as error:
        said = str(error).splitlines()[0].rstrip(".")
        if isinstance(error, TransportError) or getattr(error, "retryable", False):
            raise NotSent(None, f"no new access token: {said}") from error
        raise UserError(
            f"no usable Google credentials: {said}; "
            'run `gcloud auth application-default login`, or for the local cloud `eval "$(odcloud local env)"`'
        ) from error
    return credentials

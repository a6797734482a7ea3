"""Application Default Credentials; imported only where no access token is given, for the import is slow."""

from __future__ import annotations

from typing import Any

from launcher.errors import UserError


def default_token(credentials: Any, scope: str) -> tuple[Any, str]:
    """The credentials (found when None is given) and an access token of theirs that is valid now."""
    import google.auth
    from google.auth.exceptions import GoogleAuthError
    from google.auth.transport.requests import Request

    try:
        if credentials is None:
            credentials, _ = google.auth.default(scopes=[scope])
        if not credentials.valid:
            credentials.refresh(Request())
    except GoogleAuthError as error:
        raise UserError(
            f"no usable Google credentials: {str(error).splitlines()[0].rstrip('.')}; "
            'run `gcloud auth application-default login`, or for the local cloud `eval "$(odcloud local env)"`'
        ) from error
    return credentials, str(credentials.token)

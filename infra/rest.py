"""REST calls of what asks how things are at this moment, which Pulumi's state does not tell."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

REQUEST_SECONDS = 60
QUOTA_PROJECT = "X-Goog-User-Project"
LOCAL = 'On the local cloud: `odcloud local start`, `eval "$(odcloud local env)"`, and again.'


class RestError(Exception):
    """A service is not reached, refuses, or there are no credentials for it."""


class Api:
    """One service: `default` is its address on Google Cloud, CLOUDSDK_API_ENDPOINT_OVERRIDES_<SERVICE> another one."""

    def __init__(self, service: str, default: str, path: str) -> None:
        """
        Raises:
            RestError: no credentials.
        """
        import requests

        base = os.environ.get(f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{service.upper()}") or default
        self.root = f"{base.rstrip('/')}/{path}".rstrip("/")
        self.session = requests.Session()
        self.session.headers.update(signature())

    @property
    def quota_project(self) -> str | None:
        """Whose quota the calls count against, where the credentials name a project."""
        project = self.session.headers.get(QUOTA_PROJECT)
        return None if project is None else str(project)

    def call(self, verb: str, path: str, **params: str) -> tuple[int, dict[str, Any]]:
        """One request; its status and JSON.

        Raises:
            RestError: no answer, or not one of the service's.
        """
        import requests

        url = f"{self.root}/{path}"
        try:
            answer = self.session.request(verb, url, params=params, timeout=REQUEST_SECONDS)
            body = answer.json() if answer.content else {}
        except requests.exceptions.JSONDecodeError:
            raise RestError(f"{url}: answered {answer.status_code} without JSON; is this the right endpoint?") from None
        except requests.exceptions.RequestException as error:
            raise RestError(f"{url} is not reached ({type(error).__name__}). {LOCAL}") from None
        return answer.status_code, body

    def pages(self, path: str, what: str, **params: str) -> Iterator[dict[str, Any]]:
        """Every page of a list; none if there is nothing that could have one.

        Raises:
            RestError: refused.
        """
        while True:
            status, page = self.call("GET", path, **params)
            if status == 404:
                return
            if status != 200:
                raise RestError(f"{what} cannot be listed: {message(status, page)}")
            yield page
            if not page.get("nextPageToken"):
                return
            params["pageToken"] = page["nextPageToken"]


def message(status: int, body: Mapping[str, Any]) -> str:
    error = body.get("error")
    return f"{status} {error.get('message', '')}" if isinstance(error, dict) else str(status)


def signature() -> dict[str, str]:
    """The headers that say who calls, by the environment's token or else Application Default Credentials, and on whose quota.

    Raises:
        RestError: neither.
    """
    project = os.environ.get("GOOGLE_CLOUD_QUOTA_PROJECT")
    token = os.environ.get("GOOGLE_OAUTH_ACCESS_TOKEN")
    if token:
        return _signature(token, project)
    import google.auth
    import google.auth.exceptions
    import google.auth.transport.requests

    try:
        credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
        if not credentials.valid:
            credentials.refresh(google.auth.transport.requests.Request())
    except google.auth.exceptions.GoogleAuthError as error:
        raise RestError(
            f"no credentials for Google Cloud ({str(error).splitlines()[0]}). Run `gcloud auth "
            'application-default login`, or on the local cloud `eval "$(odcloud local env)"`.'
        ) from None
    return _signature(str(credentials.token), project or getattr(credentials, "quota_project_id", None))


def _signature(token: str, project: str | None) -> dict[str, str]:
    headers = {"Authorization": f"Bearer {token}"}
    return {**headers, QUOTA_PROJECT: project} if project else headers

"""The pages: which path is which, who may see them, and the headers that keep strangers and scripts out."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from localcloud.api import ApiError
from localcloud.dashboard import access, pages
from localcloud.dashboard.client import Client
from localcloud.dashboard.pages import NotFound, Views

_log = logging.getLogger("localcloud.dashboard")

PREFIX = "ui/"
SIGN_IN = "_signin"
"""Where a client that has the bearer token asks for a link."""
_FORM_LIMIT = 4096  # bytes
_STATIC = {"style.css": "text/css; charset=utf-8", "live.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with no-referrer, browsers would not tell a form's Origin
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Dashboard:
    """Answers the requests that `owns` says are the pages'. The Host header was checked before."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._key = client.cloud.token
        self._codes = access.Codes()
        self._views = Views(client)
        views = self._views
        self._pages: list[tuple[re.Pattern[str], Callable[..., Response]]] = [
            (re.compile(r""), views.jobs),
            (re.compile(r"ui/jobs/(?P<number>\w+)"), views.job),
            (re.compile(r"ui/jobs/(?P<number>\w+)/report"), views.report),
            (re.compile(r"ui/buckets"), views.buckets),
            (re.compile(r"ui/buckets/(?P<bucket>[\w.-]+)"), views.bucket),
            (re.compile(r"ui/buckets/(?P<bucket>[\w.-]+)/object"), views.content),
        ]
        self._forms: list[tuple[re.Pattern[str], Callable[..., Response]]] = [
            (re.compile(r"ui/jobs/(?P<number>\w+)/cancel"), views.cancel),
            (re.compile(r"ui/jobs/(?P<number>\w+)/again"), views.again),
        ]

    @staticmethod
    def owns(path: str) -> bool:
        """Whether a path (without its leading slash) is one of the pages'."""
        return path == "" or path.startswith(PREFIX)

    def link(self, job: str | None) -> str:
        """An address that signs a browser in, once, and leads to a job's page, or to that of all."""
        path = f"/ui/jobs/{job}" if job else "/"
        return f"{self._client.cloud.base_url}/ui/signin?code={self._codes.give(path)}"

    async def answer(self, request: Request, path: str) -> Response:
        """The answer to a request. Errors are pages, too."""
        response = await self._answer(request, path)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    async def _answer(self, request: Request, path: str) -> Response:
        reading = request.method in ("GET", "HEAD")
        if reading and path.removeprefix(PREFIX) in _STATIC:
            return _static(path.removeprefix(PREFIX))
        session = request.cookies.get(self._cookie(request), "")
        signed_in = access.session_is_valid(self._key, session, time.time())
        if path == "ui/signin" and reading:
            return self._sign_in(request, signed_in)
        if not signed_in:
            return self._error(401, "Not signed in", "", command="odcloud open")
        request.state.form_mark = access.form_mark(self._key, session)
        if reading:
            found = _match(self._pages, path)
        elif request.method == "POST":
            found = _match(self._forms, path)
            if found and not await self._form_is_ours(request, session):
                return self._error(403, "Refused", "This form did not come from a page of this local cloud. Reload, try again.")
        else:
            found = None
        if found is None:
            return self._error(404, "Not found", f"There is no page /{path}.")
        view, parameters = found
        try:
            return await run_sync(lambda: view(request, **parameters))
        except NotFound as error:
            return self._error(404, "Not found", str(error))
        except ApiError as error:
            return self._error(error.code, "Not found" if error.code == 404 else "Refused", error.message)
        except Exception:
            _log.exception("%s /%s", request.method, path)
            return self._error(500, "An error of the local cloud", "Its cause is in server.log.")

    def _sign_in(self, request: Request, signed_in: bool) -> Response:
        path = self._codes.take(request.query_params.get("code", ""))
        if path is None:
            if signed_in:
                return RedirectResponse("/", status_code=303)
            return self._error(401, "This link is used up", "A link works once, and for ten minutes.", command="odcloud open")
        # No redirect: after a click on another site's page the browser would follow it without a SameSite=Strict cookie.
        response = HTMLResponse(pages.render("signed_in.html.j2", target=path), headers={"Refresh": f"0; url={path}"})
        session = access.new_session(self._key, time.time())
        response.set_cookie(self._cookie(request), session, path="/", httponly=True, samesite="strict")
        return response

    async def _form_is_ours(self, request: Request, session: str) -> bool:
        if request.headers.get("origin") != f"http://{request.headers['host']}":
            return False
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > _FORM_LIMIT:
                return False
        request.state.form = dict(parse_qsl(body.decode("utf-8", "replace")))
        return access.form_is_genuine(self._key, session, request.state.form.get("mark", ""))

    def _error(self, code: int, title: str, message: str, command: str = "") -> Response:
        values: dict[str, Any] = {"title": title, "message": message, "command": command}
        return HTMLResponse(pages.render("error.html.j2", **values), status_code=code)

    @staticmethod
    def _cookie(request: Request) -> str:
        return f"odcloud-{request.scope['server'][1]}"


def _static(name: str) -> Response:
    content = (Path(__file__).parent / "static" / name).read_bytes()
    return Response(content, headers={"Content-Type": _STATIC[name], "Cache-Control": "no-cache"})


def _match(table: list[tuple[re.Pattern[str], Any]], path: str) -> tuple[Any, dict[str, str]] | None:
    for pattern, view in table:
        if match := pattern.fullmatch(path):
            return view, match.groupdict()
    return None

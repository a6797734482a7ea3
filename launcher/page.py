"""`odcloud open`: a job's page in the browser."""

from __future__ import annotations

import http.client
import json
import os
import sys
import webbrowser

from launcher import mlengine, vertex
from launcher.errors import UserError
from launcher.google import Google, GoogleError, override_name
from launcher.place import Place
from launcher.session import Session, connect
from launcher.transport import Transport

CONSOLE = "https://console.cloud.google.com/vertex-ai"


def open_page(job: str | None, only_print: bool, stack: str | None) -> int:
    """The command; returns its exit code."""
    session = _session(stack)
    session, number = _found(session, job) if job else (session, None)
    address = url(session, number)
    if address is None:
        print(session.google.base_url("aiplatform"))
        show = f"odcloud jobs show {number}" if number else "odcloud jobs list"
        print(f"there is no page at that address; `{show}` shows the same here", file=sys.stderr)
        return 0
    print(address)
    if not only_print and not webbrowser.open(address):
        print("no browser could be started: open the address above", file=sys.stderr)
    return 0


def _session(stack: str | None) -> Session:
    """The stack's session; without any stack that of the service that stands in for Google's, whose jobs may have none."""
    try:
        return connect(stack)
    except UserError:
        if stack or not os.environ.get(override_name("aiplatform")):
            raise
        return Place.of(None, None, (), None).session(bucket=False)


def _found(session: Session, job: str) -> tuple[Session, str]:
    """The session of a job's region, and what its page is called after: its number, or the jobId of a job of ML Engine.

    Google's own ML Engine is gone; what stands in for it is asked when no custom job is meant. Raises UserError, GoogleError.
    """
    try:
        found = session.find(job)
        return session.of(found), vertex.number(found)
    except UserError as error:
        if not mlengine.is_name(job):
            raise
        if _is_google(session.google, "ml"):
            raise UserError(f"{error}; a job of ML Engine, which ended training on 2025-01-31, has no page any more") from None
        try:
            session.google.call("ml.projects.jobs.get", name=f"projects/{session.outputs.project}/jobs/{job}")
        except GoogleError as missing:
            if missing.status not in (404, 501):
                raise
            raise error from None
        return session, job


def _is_google(google: Google, service: str) -> bool:
    return google.base_url(service).removesuffix("/").endswith(".googleapis.com")


def url(session: Session, number: str | None) -> str | None:
    """The page of a job, or of all: in Google's console, or by the service that stands in for Vertex AI; None: it has none."""
    if not _is_google(session.google, "aiplatform"):
        return _link(session.google, number)
    outputs = session.outputs
    if number is None:
        return f"{CONSOLE}/training/custom-jobs?project={outputs.project}"
    return f"{CONSOLE}/locations/{session.google.region}/training/{number}?project={outputs.project}"


def _link(google: Google, number: str | None) -> str | None:
    """A link that signs the browser in, once; a service that gives such links is asked for one with the access token."""
    headers = {
        "Authorization": f"Bearer {google.access_token()}",
        "Content-Type": "application/json",
        "User-Agent": "odcloud",
    }
    body = json.dumps({"job": number} if number else {}).encode()
    try:
        answer = Transport(timeout=5.0).send("POST", google.base_url("aiplatform") + "_signin", headers, body)
        found = json.loads(answer.body)["url"] if answer.status == 200 else None
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
        return None
    return str(found) if found else None

"""`odcloud open`: a job's page in the browser."""

from __future__ import annotations

import http.client
import json
import sys
import webbrowser

from launcher import mlengine, vertex
from launcher.errors import UserError
from launcher.google.api import Google
from launcher.google.transport import Transport
from launcher.jobs import oldapi
from launcher.stack import place
from launcher.stack.session import Session

CONSOLE = "https://console.cloud.google.com/vertex-ai"


def open_page(job: str | None, only_print: bool, stack: str | None) -> int:
    """The command; returns its exit code."""
    session, number = place.session(stack), None
    if job:
        try:
            session, found, _ = oldapi.find(session, job)
        except UserError as error:
            if not (session.google.is_google("ml") and mlengine.is_name(job)):
                raise
            raise UserError(f"{error}; a job of ML Engine, which ended training on 2025-01-31, has no page any more") from None
        number = vertex.number(found)
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


def url(session: Session, number: str | None) -> str | None:
    """The page of a job, or of all: in Google's console, or by the service that stands in for Vertex AI; None: it has none."""
    if not session.google.is_google("aiplatform"):
        return _link(session.google, number)
    outputs = session.outputs
    if number is None:
        return f"{CONSOLE}/training/custom-jobs?project={outputs.project}"
    return f"{CONSOLE}/locations/{session.google.region}/training/{number}?project={outputs.project}"


def _link(google: Google, number: str | None) -> str | None:
    """A link that signs the browser in, once; a service that gives such links is asked for one with the access token.

    None: the service gives none. Raises UserError when nobody answers.
    """
    headers = {
        "Authorization": f"Bearer {google.access_token()}",
        "Content-Type": "application/json",
        "User-Agent": "odcloud",
    }
    body = json.dumps({"job": number} if number else {}).encode()
    root = google.base_url("aiplatform")
    try:
        answer = Transport(timeout=5.0).send("POST", root + "_signin", headers, body)
        found = json.loads(answer.body)["url"] if answer.status == 200 else None
    except OSError as error:
        raise UserError(
            f"cannot reach {root}: {error.strerror or error}; check that it is up (the local cloud: odcloud local status)"
        ) from error
    except (http.client.HTTPException, ValueError, LookupError, TypeError):
        return None
    return str(found) if found else None

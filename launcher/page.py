"""`odcloud open`: a job's page in the browser."""

from __future__ import annotations

import http.client
import sys
import webbrowser

from launcher import vertex
from launcher.session import Session, connect
from launcher.transport import Transport

CONSOLE = "https://console.cloud.google.com/vertex-ai"


def open_page(job: str | None, only_print: bool, stack: str | None) -> int:
    """The command; returns its exit code."""
    session = connect(stack)
    number = vertex.number(session.find(job)) if job else None
    address = url(session, number)
    print(address)
    if only_print:
        return 0
    if not address.startswith(CONSOLE) and not _is_page(address):
        show = f"odcloud jobs show {number}" if number else "odcloud jobs list"
        print(f"there is no page at that address yet; `{show}` shows the same here", file=sys.stderr)
        return 0
    if not webbrowser.open(address):
        print("no browser could be started: open the address above", file=sys.stderr)
    return 0


def url(session: Session, number: str | None) -> str:
    """The page of a job, or of all: in Google's console, or at the address that stands in for Vertex AI's."""
    base = session.google.base_url("aiplatform")
    if not base.removesuffix("/").endswith(".googleapis.com"):
        return base
    outputs = session.outputs
    if number is None:
        return f"{CONSOLE}/training/custom-jobs?project={outputs.project}"
    return f"{CONSOLE}/locations/{outputs.region}/training/{number}?project={outputs.project}"


def _is_page(address: str) -> bool:
    try:
        answer = Transport(timeout=5.0).send("GET", address, {"Accept": "text/html", "User-Agent": "odcloud"})
    except (OSError, http.client.HTTPException):
        return False
    return answer.status < 400 and answer.headers.get("content-type", "").startswith("text/html")

"""Following a job to its end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from launcher import vertex
from launcher.google import GoogleError
from launcher.logs import Reader
from launcher.screen import Screen
from launcher.session import Session
from launcher.view import Note, View, duration

FIRST_POLL, SLOWEST_POLL = 0.5, 2.0
"""Seconds between polls: quick at first, then 30 a minute, half of what Cloud Logging allows a project."""
OUTAGE = 180.0
"""Seconds for which a service that cannot be reached is waited for."""


def follow(session: Session, job: Mapping[str, Any], screen: Screen) -> View:
    """Shows a job on `screen` until it has ended. Raises GoogleError when the service is gone for too long."""
    view, reader = View(job), Reader(session, job)
    delay, since = FIRST_POLL, None
    while True:
        try:
            # The state first: the entries read after an end are all there are.
            now = session.get(vertex.number(job))
            entries = reader.new()
            since = None
        except GoogleError as error:
            if not error.transient:
                raise
            if since is None:
                since = time.monotonic()
                screen.tell(Note(f"{error}; trying again"))
            elif time.monotonic() - since > OUTAGE:
                raise
            time.sleep(SLOWEST_POLL)
            continue
        for note in [*view.update(now), *view.absorb(entries)]:
            screen.tell(note)
        screen.show(view)
        if view.ended:
            _drain(view, reader, screen)
            return view
        time.sleep(delay)
        delay = min(delay * 1.2, SLOWEST_POLL)


def snapshot(session: Session, job: Mapping[str, Any]) -> View:
    """A job with what its log says of it until now."""
    view = View(job)
    view.absorb(Reader(session, job).new())
    return view


def _drain(view: View, reader: Reader, screen: Screen) -> None:
    """Reads what arrives late: until every replica's end is known and nothing new comes, for some seconds at most."""
    for _ in range(6):
        known = all(replica.end_time or replica.state == "STOPPED" for replica in view.replicas.values())
        time.sleep(0.1 if known else 0.5)
        entries = reader.new()
        for note in view.absorb(entries):
            screen.tell(note)
        if known and not entries:
            break
    screen.show(view)


def verdict(view: View) -> str:
    """One line: what came of the job."""
    seconds = view.seconds()
    took = f" after {duration(seconds)}" if seconds is not None else ""
    text = f"{view.job.get('displayName')} (job {vertex.number(view.job)}): {view.state}{took}"
    if view.metrics:
        text += "\n" + " · ".join(f"{name} {value:.3f}" for name, value in view.metrics.items() if value >= 0)
    return text


def autopsy(view: View) -> list[str]:
    """Why a job failed, in lines: the service's message, then the last lines of the replica that failed first."""
    message = str((view.job.get("error") or {}).get("message", "")).rstrip()
    lines = message.splitlines()
    failed = view.failed_first()
    if failed and not all(line in message for line in failed.lines):
        lines += [f"last lines of {failed.name}:", *(f"  {line}" for line in failed.lines)]
    return lines

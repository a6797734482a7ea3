"""Following a job to its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from launcher import vertex
from launcher.google.api import GoogleError
from launcher.google.explain import explain_job
from launcher.jobs.logs import Entry, Reader
from launcher.jobs.screen import Screen
from launcher.jobs.view import Note, View, duration
from launcher.stack.session import Session

FIRST_POLL, SLOWEST_POLL = 0.5, 2.0
"""Seconds between polls: quick at first, then 30 a minute, half of what Cloud Logging allows a project."""
OUTAGE = 180.0
"""Seconds for which a service that cannot be reached is waited for."""


def poll(session: Session, view: View, reader: Reader, tell: Callable[[str], None]) -> Iterator[tuple[list[Entry], list[Note]]]:
    """Keeps `view` as new as the job until that has ended: each time the new log entries, and what changed.

    A service that cannot be reached is waited for, which `tell` is told. Raises GoogleError when it is gone for too long.
    """
    delay, since = FIRST_POLL, None
    while True:
        try:
            # The state first: the entries read after an end are all there are.
            now = session.get(vertex.number(view.job))
            entries = reader.new()
            since = None
        except GoogleError as error:
            if not error.transient:
                raise
            if since is None:
                since = time.monotonic()
                tell(f"{error}; trying again")
            elif time.monotonic() - since > OUTAGE:
                raise
            time.sleep(SLOWEST_POLL)
            continue
        yield entries, [*view.update(now), *view.absorb(entries)]
        if view.ended:
            break
        time.sleep(delay)
        delay = min(delay * 1.2, SLOWEST_POLL)
    # What arrives late: until every replica's end is known and nothing new comes, for some seconds at most.
    for _ in range(6):
        known = all(replica.end_time or replica.state == "STOPPED" for replica in view.replicas.values())
        time.sleep(0.1 if known else 0.5)
        entries = reader.new()
        yield entries, view.absorb(entries)
        if known and not entries:
            break


def follow(session: Session, job: Mapping[str, Any], screen: Screen) -> View:
    """Shows a job on `screen` until it has ended. Raises GoogleError when the service is gone for too long."""
    view = View(job)
    for _, notes in poll(session, view, Reader(session, job), lambda text: screen.tell(Note(text))):
        for note in notes:
            screen.tell(note)
        screen.show(view)
    return view


def snapshot(session: Session, job: Mapping[str, Any]) -> View:
    """A job with what its log says of it until now."""
    view = View(job)
    view.absorb(Reader(session, job).new())
    return view


def verdict(view: View) -> str:
    """One line: what came of the job."""
    seconds = view.seconds()
    took = f" after {duration(seconds)}" if seconds is not None else ""
    text = f"{view.job.get('displayName')} (job {vertex.number(view.job)}): {view.state}{took}"
    if view.metrics:
        text += "\n" + " · ".join(f"{name} {value:.3f}" for name, value in view.metrics.items() if value >= 0)
    return text


def autopsy(view: View) -> list[str]:
    """Why a job failed, in lines: the service's message, the last lines of the replica that failed first, and what to do."""
    error = view.job.get("error") or {}
    failed = view.failed_first()
    last = list(failed.lines) if failed else []
    # The service's message may quote a replica's last lines; those are said once.
    lines = [line for line in str(error.get("message", "")).rstrip().splitlines() if line not in last]
    if failed and last:
        lines += [f"last lines of {failed.name}:", *(f"  {line}" for line in last)]
    advice = explain_job(error, str(view.job["name"])).advice
    return [*lines, advice] if advice else lines

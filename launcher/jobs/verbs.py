"""`odcloud jobs …`: what runs and what ran, and a hand on it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from launcher import vertex
from launcher.errors import UserError
from launcher.google.api import GoogleError
from launcher.jobs import oldapi, watch
from launcher.jobs.logs import Entry, Reader, clean, moment, task_of
from launcher.jobs.logs import since as log_since
from launcher.jobs.screen import screen
from launcher.jobs.view import View, duration
from launcher.stack import place
from launcher.stack.session import Session, connect
from launcher.terminal import say, table


def show_list(stack: str | None, form: str) -> int:
    """The stack's jobs that odcloud launched, the newest first."""
    session = connect(stack)
    found = [job for job in session.jobs_everywhere() if vertex.run(job)]
    if form == "json":
        print(json.dumps([_row(job) for job in found], indent=2))
        return 0
    if not found:
        say("no jobs yet; launch one with `odcloud train --config JOB.yaml`")
        return 0
    abroad = len({vertex.region(job) for job in found}) > 1
    rows = [("JOB", "RUN", "KIND", "STATE", "REPLICAS", "AGE", *(("REGION",) if abroad else ()))]
    for job in found:
        row, age = _row(job), duration(max(0.0, (session.now() - moment(job["createTime"])).total_seconds()))
        where = (row["region"],) if abroad else ()
        rows.append((row["job"], row["run"], row["kind"], row["state"], str(row["replicas"]), age, *where))
    table(rows)
    return 0


def _row(job: dict[str, Any]) -> dict[str, Any]:
    return {
        "job": vertex.number(job),
        "run": vertex.run(job),
        "kind": vertex.kind(job) or "",
        "name": job.get("displayName"),
        "region": vertex.region(job),
        "state": vertex.state(job),
        "replicas": len(vertex.tasks(job)),
        "createTime": job.get("createTime"),
        "startTime": job.get("startTime"),
        "endTime": job.get("endTime"),
    }


def show(text: str, stack: str | None, form: str) -> int:
    """One job with its replicas."""
    session, job, old = oldapi.find(place.session(stack), text)
    view = (oldapi if old else watch).snapshot(session, job)
    if form == "json":
        print(json.dumps(view.facts(), indent=2))
        return 0
    print(watch.verdict(view))
    for label, value in (("run", vertex.run(job)), ("created", job.get("createTime")), ("started", job.get("startTime"))):
        print(f"  {label:8} {value or '-'}")
    print(f"  {'ended':8} {job.get('endTime') or '-'}")
    if view.progress and not view.ended:
        print(f"  {'progress':8} {view.progress}")
    print()
    rows = [("REPLICA", "STATE", "EXIT CODE", "RESTARTS", "STARTED", "ENDED")]
    for replica in view.replicas.values():
        code = "-" if replica.exit_code is None else str(replica.exit_code)
        times = (_clock(replica.start_time), _clock(replica.end_time))
        rows.append((replica.name, view.state_of(replica), code, str(replica.restarts), *times))
    table(rows)
    lines = watch.autopsy(view) if view.ended else []
    if lines:
        print("\n" + "\n".join(lines))
    return 0


def _found(text: str, stack: str | None) -> tuple[Session, dict[str, Any]]:
    """A custom job, and the session of the region that it is in. Raises UserError."""
    session, job, old = oldapi.find(place.session(stack), text)
    if old:
        raise UserError(
            f"job {text} was made through ML Engine's own API: `odcloud jobs show {text}` shows it; for its log and its end "
            f"there are `gcloud ai-platform jobs stream-logs {text}` and `gcloud ai-platform jobs cancel {text}`"
        )
    return session, job


def logs(text: str, replica: str | None, follow: bool, since: str | None, stack: str | None, form: str) -> int:
    """A job's log, of all replicas or of one, from a time on; with `follow` until the job ends."""
    session, job = _found(text, stack)
    start = log_since(since, session.now()) if since else None
    task = task_of(job, "--replica", replica) if replica else None
    reader = Reader(session, job, task, start)
    for entries, _ in watch.poll(session, View(job, reader.tasks), reader, say) if follow else [(reader.new(), [])]:
        for entry in entries:
            _print_entry(entry, form)
        sys.stdout.flush()
    return 0


def _print_entry(entry: Entry, form: str) -> None:
    if form == "json":
        fields = {"time": entry.time, "replica": entry.replica, "severity": entry.severity, "message": entry.message}
        print(json.dumps({**fields, **({"payload": dict(entry.payload)} if entry.payload else {})}))
        return
    for line in clean(entry.message).splitlines() or [""]:
        print(f"{_clock(entry.time)} {entry.replica:<9} {line}")


def wait(text: str, stack: str | None, form: str) -> int:
    """Waits for a job's end; 0 if it succeeded, else 1 with the last lines of the replica that failed first."""
    session, job = _found(text, stack)
    display = screen()
    try:
        view = watch.follow(session, job, display)
    finally:
        display.close()
    print(json.dumps(view.facts()) if form == "json" else watch.verdict(view))
    if view.state == vertex.SUCCEEDED:
        return 0
    for line in watch.autopsy(view):
        say(line)
    return 1


def cancel(text: str, wait_for_end: bool, stack: str | None, form: str) -> int:
    """Cancels a job and waits until it is; a job that has ended is left as it is."""
    session, job = _found(text, stack)
    number = vertex.number(job)
    if vertex.state(job) in vertex.ENDED:
        say(f"job {number} has ended already")
    else:
        session.cancel(number)
        job = session.get(number)
        if wait_for_end and vertex.state(job) not in vertex.ENDED:
            say(f"job {number}: {vertex.state(job)}; waiting for its end (Ctrl-C ends the waiting only)")
        while wait_for_end and vertex.state(job) not in vertex.ENDED:
            time.sleep(watch.FIRST_POLL)
            job = session.get(number)
    view = View(job)
    if form == "json" and vertex.state(job) in vertex.ENDED:
        try:
            view = watch.snapshot(session, job)  # what became of its replicas is in the log only
        except GoogleError as error:
            say(f"warning: what became of the replicas is not known: {error}")
    print(json.dumps(view.facts()) if form == "json" else watch.verdict(view))
    return 0


def delete(texts: Sequence[str], stack: str | None, form: str) -> int:
    """Deletes jobs that have ended: all of those named, or none. Raises UserError when one is active."""
    session = connect(stack)
    found = {vertex.number(job): job for job in (session.find(text) for text in texts)}
    active = [number for number, job in found.items() if vertex.state(job) not in vertex.ENDED]
    if active:
        states = ", ".join(f"job {number} is {vertex.state(found[number])}" for number in active)
        raise UserError(f"{states}: only jobs that have ended can be deleted; first `odcloud jobs cancel {active[0]}`")
    for number, job in found.items():
        session.of(job).delete(number)
        if form == "text":
            print(f"deleted {job.get('displayName')} (job {number})")
    if form == "json":
        print(json.dumps([_row(job) for job in found.values()], indent=2))
    return 0


def _clock(time_text: str | None) -> str:
    """An RFC 3339 time as the local clock's hours, minutes and seconds; `-` for none."""
    return moment(time_text).astimezone().strftime("%H:%M:%S") if time_text else "-"

"""Runs, their records in the bucket, and launches that make one job and not two.

The service knows no request id, so a create call whose answer got lost must not simply be sent again. Instead:

1. look for an active job with the run's labels, and adopt it;
2. write the record `runs/RUN/KIND-N.json`, which only one launcher can (ifGenerationMatch=0);
3. look again (the one who held the record before may have created a job since), create the job, note its name in the record;
4. when the answer is unclear (connection lost, 5xx), look for a job that was not there before; if there is none, create again.

A launcher that died between 2 and 3 leaves an open record; the next one takes it over once its owner is known to be gone.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from launcher import vertex
from launcher.errors import UserError
from launcher.google import ATTEMPTS, GoogleError
from launcher.job import RUN_PREFIX, EvaluationJob, TrainingJob
from launcher.logs import moment
from launcher.session import Session

OWNER_GRACE = 120.0
"""Seconds after which an open record of another machine is given up; longer than a create call may take."""

Say = Callable[[str], None]
_RECORD = re.compile(r"runs/(?P<run>[^/]+)/(?P<kind>train|eval)-(?P<n>\d+)\.json")


def new_id() -> str:
    """An id for a new run, in the old page's form: object_detection_<epoch seconds>."""
    return f"{RUN_PREFIX}{int(time.time())}"


def check_id(run: str) -> str:
    """`run`, if it can be a label, a folder and a display name. Raises UserError."""
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", run) or run.isdigit():
        raise UserError(f"--run {run!r}: a run id is a letter and at most 62 lower-case letters, digits, _ and - after it")
    return run


@dataclass(frozen=True)
class Launched:
    """The job of a launch; `adopted` when it was there already."""

    job: dict[str, Any]
    adopted: bool


class RunTaken(Exception):
    """A run that was to be new has a record or a job already."""


@dataclass
class _Record:
    name: str
    generation: int
    content: dict[str, Any]


def newest(session: Session) -> str:
    """The run whose training was launched last. Raises UserError when there is none."""
    found = [(item["timeCreated"], match["run"]) for item, match in _records(session, "runs/") if match["kind"] == "train"]
    if not found:
        raise UserError(
            f"no run yet in gs://{session.outputs.bucket}/runs; "
            "start one with `odcloud train --config JOB.yaml`, or name one with --run"
        )
    return str(max(found)[1])


def launch(session: Session, job: TrainingJob | EvaluationJob, say: Say, *, new_run: bool = False) -> Launched:
    """Finds the active job of the run and kind, or creates it.

    `new_run`: raise RunTaken if the run exists already. Raises UserError and GoogleError.
    """
    body = vertex.custom_job(job)
    waited_for = None
    while True:
        jobs = _jobs_of(session, job)
        if jobs and new_run:
            raise RunTaken
        active = [found for found in jobs if vertex.state(found) not in vertex.ENDED]
        if active and vertex.state(active[0]) != vertex.CANCELLING:
            return Launched(active[0], adopted=True)
        reason = f"job {vertex.number(active[0])} of this run is being cancelled" if active else ""
        if not active:
            record = _claim(session, job, body, new_run)
            if isinstance(record, _Record):
                return _create(session, job, body, record, say)
            reason = record
        if reason != waited_for:
            say(f"{reason}: waiting for it")
            waited_for = reason
        time.sleep(1.0)


def _create(session: Session, job: TrainingJob | EvaluationJob, body: dict[str, Any], record: _Record, say: Say) -> Launched:
    jobs = _jobs_of(session, job)
    active = [found for found in jobs if vertex.state(found) not in vertex.ENDED]
    if active:
        _settle(session, record, {"job": active[0]["name"]}, say)
        return Launched(active[0], adopted=True)
    before = {found["name"] for found in jobs}
    for attempt in range(1, ATTEMPTS + 1):
        try:
            created = session.create(body)
            break
        except GoogleError as error:
            if not error.transient:
                _settle(session, record, {"error": str(error)}, say)
                raise
            time.sleep(error.retry_after or 0.5 * 2**attempt)
            since = [found for found in _jobs_of(session, job) if found["name"] not in before]
            if since:
                say(f"the answer to the create call was lost, but job {vertex.number(since[0])} was made by it")
                created = since[0]
                break
            if attempt == ATTEMPTS:
                raise
            say(f"create call failed ({error.message}), and no job was made: trying again")
    _settle(session, record, {"job": created["name"]}, say)
    return Launched(created, adopted=False)


def _jobs_of(session: Session, job: TrainingJob | EvaluationJob) -> list[dict[str, Any]]:
    """The run's jobs of one kind, the newest first."""
    found = session.jobs(display_name=job.display_name)
    return [one for one in found if vertex.run(one) == job.run and vertex.kind(one) == job.kind]


def _records(session: Session, prefix: str) -> list[tuple[dict[str, Any], re.Match[str]]]:
    """The bucket's records under `prefix`, each with its name's parts."""
    matched = ((item, _RECORD.fullmatch(item["name"])) for item in session.objects(prefix))
    return [(item, match) for item, match in matched if match]


def _claim(session: Session, job: TrainingJob | EvaluationJob, body: dict[str, Any], new_run: bool) -> _Record | str:
    """An open record of one's own, or the reason to wait."""
    records = [(int(match["n"]), item) for item, match in _records(session, f"runs/{job.run}/") if match["kind"] == job.kind]
    if records and new_run:
        raise RunTaken
    count, generation = 1, 0
    if records:
        count, item = max(records, key=lambda record: record[0])
        generation = int(item["generation"])
        try:
            content = json.loads(session.google.download(session.outputs.bucket, item["name"]))
        except ValueError:
            content = {"error": "not JSON"}
        if content.get("job") or content.get("error"):
            count, generation = count + 1, 0
        elif _owner_may_live(content.get("launcher", {}), item):
            return f"another launcher ({content.get('launcher', {}).get('host', 'unknown')}) is launching this run"
    content = {
        "run": job.run,
        "kind": job.kind,
        "launcher": {"host": socket.gethostname(), "pid": os.getpid(), "id": uuid.uuid4().hex},
        "created": _now(),
        "parent": session.parent,
        "request": body,
        "job": None,
        "error": None,
    }
    record = _Record(f"runs/{job.run}/{job.kind}-{count}.json", generation, content)
    if _write(session, record):
        return record
    if new_run:
        raise RunTaken
    return "another launcher is launching this run"


def _write(session: Session, record: _Record) -> bool:
    """Writes a record over the generation it was read at; False if someone else did in the meantime."""
    bucket = session.outputs.bucket
    content = json.dumps(record.content, indent=2).encode()
    try:
        written = session.google.upload(bucket, record.name, content, "application/json", if_generation=record.generation)
        record.generation = int(written["generation"])
        return True
    except GoogleError as error:
        if error.status != 412:
            raise session.explained(error) from error
    # A repeated upload may have met its own first try: whose record is it?
    if session.google.download(bucket, record.name) != content:
        return False
    found = session.google.call("storage.objects.get", bucket=bucket, object=record.name)
    record.generation = int(found["generation"])
    return True


def _settle(session: Session, record: _Record, outcome: dict[str, Any], say: Say) -> None:
    """Notes in the record what became of the launch; a launch that worked is not undone by a note that did not."""
    record.content.update(outcome, settled=_now())
    try:
        _write(session, record)
    except (GoogleError, UserError) as error:
        say(f"could not complete the run's record {record.name}: {error}")


def _owner_may_live(launcher: dict[str, Any], item: dict[str, Any]) -> bool:
    written = moment(str(item.get("updated", item["timeCreated"])))
    if (datetime.now(timezone.utc) - written).total_seconds() > OWNER_GRACE:
        return False
    if launcher.get("host") != socket.gethostname():
        return True
    try:
        os.kill(int(launcher["pid"]), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, KeyError, ValueError):
        pass
    return True


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")

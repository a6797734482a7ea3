"""Runs, and launches that make one job and not two.

The service knows no request id, so a create call whose answer got lost must not simply be sent again. Instead:

1. read the run's last record (records.py), and look for a job that it names or that the run's labels name; adopt an active one;
2. open the next record, which only one launcher can, or take over one whose launcher is gone;
3. look again, create the job with the record's launch id as a label, and name it in the record;
4. when the answer is unclear (connection lost, 5xx), look for a job with that launch id for SETTLE seconds, whatever its state;
   only if there is none, create again. A call that was surely refused (429, no connection) needs no such wait.

A record is held by one launcher at a time and sends no create call that is older than its hold (`records.Record.fresh`).
What this cannot exclude: a create call that Google carries out more than SETTLE seconds after the connection it came by was
lost, or that a look-up does not show by then. Should such a job turn up while its launcher still looks, the older one stays and
the other is cancelled; every launcher adopts the oldest.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from launcher import vertex
from launcher.errors import UserError
from launcher.google.api import ATTEMPTS, LONGEST_WAIT, GoogleError, pause
from launcher.job import RUN_PREFIX, EvaluationJob, RecordedJob, TrainingJob
from launcher.launch import records
from launcher.launch.records import Record, RecordLost
from launcher.stack.session import Session

Say = Callable[[str], None]


def new_id() -> str:
    """An id for a new run, in the old page's form: object_detection_<epoch seconds>."""
    return f"{RUN_PREFIX}{int(time.time())}"


def check_id(run: str) -> str:
    """`run`, if it can be a label, a folder and a display name. Raises UserError."""
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", run) or run.isdigit():
        raise UserError(f"--run {run!r}: a run id is at most 63 lower-case letters, digits, _ and -, the first a letter")
    return run


@dataclass(frozen=True)
class Launched:
    """The job of a launch; `adopted` when it was there already."""

    job: dict[str, Any]
    adopted: bool


class RunTaken(Exception):
    """A run that was to be new has a record or a job already."""


def newest(session: Session) -> str:
    """The run whose training was launched last. Raises UserError when there is none."""
    found = [
        (item["timeCreated"], match["run"]) for item, match in records.listed(session, "runs/") if match["kind"] == "train"
    ]
    if not found:
        raise UserError(
            f"no run yet in gs://{session.outputs.bucket}/{session.own('runs')}; "
            "start one with `odcloud train --config JOB.yaml`, or name one with --run"
        )
    return str(max(found)[1])


def launch(
    session: Session,
    job: TrainingJob | EvaluationJob | RecordedJob,
    say: Say,
    *,
    new_run: bool = False,
    regions: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Launched:
    """Finds the active job of the run and kind, or creates it.

    `new_run`: raise RunTaken if the run exists already. `regions`: where to try when the stack's region has no machines or
    quota for it. `notes`: what is said before a job is created. Raises UserError and GoogleError.
    """
    return _Launch(session, job, say, regions, notes).launch(new_run)


def launch_new(
    session: Session,
    job_of: Callable[[str], TrainingJob | RecordedJob],
    say: Say,
    *,
    regions: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Launched:
    """The same for a new run, whose job `job_of` makes of an id that nobody has taken."""
    while True:
        try:
            return launch(session, job_of(new_id()), say, new_run=True, regions=regions, notes=notes)
        except RunTaken:  # two new runs in one second: the id of the next second is free
            time.sleep(1.0)


class _Launch:
    def __init__(
        self,
        session: Session,
        job: TrainingJob | EvaluationJob | RecordedJob,
        say: Say,
        regions: Sequence[str],
        notes: Sequence[str],
    ) -> None:
        self._session, self._job, self._say = session, job, say
        self._sessions = [session.in_region(region) for region in dict.fromkeys((session.google.region, *regions))]
        self._regions = {one.google.region for one in self._sessions}  # where the run's jobs may be
        self._body = vertex.custom_job(job)
        self._notes = notes
        self._told = ""
        self._sent = False  # whether a create call went out whose answer is not known

    def launch(self, new_run: bool) -> Launched:
        watch = records.Watch()
        while True:
            last = None if new_run else records.newest(self._session, self._job.run, self._job.kind)
            if last and (found := self._there(last, watch.name == last.name)):
                return Launched(found, adopted=True)
            self._regions |= set(last.content.get("regions", ())) if last and last.open else set()
            reason = ""
            jobs = [] if new_run else self._jobs()
            active = _active(jobs)
            if active and vertex.state(active[0]) != vertex.CANCELLING:
                if last and last.open and vertex.launch(active[0]) == last.launch and not self._reason(watch, last):
                    self._settle(last, job=active[0]["name"])  # its launcher is gone
                return Launched(active[0], adopted=True)
            if active:
                reason = f"job {vertex.number(active[0])} of this run is being cancelled"
            elif last and last.open:
                reason = self._reason(watch, last)
            if not reason:
                record = self._hold(last)
                if record is None and new_run:
                    raise RunTaken
                if record is not None:
                    try:
                        return self._create(record)
                    except RecordLost:
                        pass
                reason = "another launcher is launching this run"
            self._wait(reason)

    def _there(self, last: Record, awaited: bool) -> dict[str, Any] | None:
        """The job of the run's last record, if it is active, or if its launch was under way when this one began."""
        if last.job:
            try:
                found = self._session.of({"name": last.job}).get(vertex.number({"name": last.job}))
            except UserError:  # deleted
                return None
            going = vertex.state(found) not in {*vertex.ENDED, vertex.CANCELLING}
            return found if going or awaited else None
        return None

    def _reason(self, watch: records.Watch, record: Record) -> str:
        """Why another's open record is not to be touched yet; "" when it may be taken over."""
        return watch.reason(record, self._session.google.date)

    def _hold(self, last: Record | None) -> Record | None:
        """A record of one's own: the last one, if that is open, or the next; None when somebody else was quicker."""
        if last and last.open:
            return last if records.take_over(self._session, last, self._body) else None
        number = last.number + 1 if last else 1
        return records.claim(self._session, self._job.run, self._job.kind, number, self._body, records.new_launch())

    def _create(self, record: Record) -> Launched:
        body = {**self._body, "labels": {**self._body["labels"], vertex.LAUNCH_LABEL: record.launch}}
        for note in self._notes:
            self._say(note)
        try:
            for session in self._sessions:
                try:
                    self._announce(session, record)
                    found = self._create_in(session, body, record)
                    break
                except GoogleError as error:
                    if session is self._sessions[-1] or not error.elsewhere:
                        raise
                    self._say(f"{session.google.region}: {error.message}: trying the next region")
        except GoogleError as error:
            if error.method.endswith("customJobs.create") and not error.unclear:
                self._settle(record, error=str(error))
            raise
        except KeyboardInterrupt:
            if self._sent:
                self._say(
                    "interrupted while the job was being created: whether it was is not known; the same command looks for it "
                    f"({records.SETTLE:.0f} s), `odcloud jobs list` shows it"
                )
            else:
                self._settle(record, error="interrupted before the create call")
                self._say("interrupted: no job was created")
            raise
        self._settle(record, job=found.job["name"])
        return found

    def _announce(self, session: Session, record: Record) -> None:
        """Notes that a job of the stack may be in another region than the stack's, so that everybody looks there, too."""
        region = session.google.region
        known = record.content.setdefault("regions", [])
        if region in (self._session.outputs.region, *known):
            return
        session.mark()
        known.append(region)
        records.renew(self._session, record)

    def _create_in(self, session: Session, body: dict[str, Any], record: Record) -> Launched:
        unclear, attempt = False, 0
        while True:
            if found := self._made(record):
                if unclear:
                    self._say(f"the answer to the create call was lost, but job {vertex.number(found)} was made by it")
                return Launched(found, adopted=not unclear)
            if not record.fresh():
                records.renew(self._session, record)
                continue
            attempt += 1
            try:
                made = session.create(body, lambda: self._may_send(record))
            except GoogleError as error:
                self._sent = error.unclear
                final = attempt == ATTEMPTS or not error.transient or error.retry_after > LONGEST_WAIT
                if error.unclear:
                    unclear = True
                    # Who does not send it again has no need of the service's patience, only of what became of the call.
                    wait = max(records.SETTLE, 0.0 if final else error.retry_after)
                    self._say(f"create call failed ({error.message}): looking for {wait:.0f} s whether it made a job")
                    if self._await(record, wait):
                        continue
                    if final:
                        raise
                    self._say("no job was made: trying again")
                elif final or error.elsewhere:
                    raise
                else:
                    wait = pause(attempt, error.retry_after)
                    self._say(f"create call failed ({error.message}): trying again in {wait:.1f} s")
                    time.sleep(wait)
                continue
            # A launcher that stood still while it sent this may have lost its record to one that created the job.
            doubtful = unclear or not record.fresh()
            return Launched(self._oldest(made, record) if doubtful else made, adopted=False)

    def _may_send(self, record: Record) -> bool:
        self._sent = record.fresh()
        return self._sent

    def _await(self, record: Record, seconds: float) -> dict[str, Any] | None:
        """Looks for the job of a create call that may still be under way, for so many seconds."""
        until, delay = records.clock() + seconds, 0.5
        while True:
            time.sleep(min(delay, max(0.0, until - records.clock())))
            found = self._made(record)
            if found or records.clock() >= until:
                return found
            delay *= 2

    def _made(self, record: Record) -> dict[str, Any] | None:
        """The job of this launch, whatever became of it, or another active job of the run; the oldest of several."""
        jobs = self._jobs()
        own = [job for job in jobs if vertex.launch(job) == record.launch]
        return next(iter(own or _active(jobs)), None)

    def _oldest(self, made: dict[str, Any], record: Record) -> dict[str, Any]:
        """The job that stays when a launch made several; the others are cancelled."""
        first, *others = [job for job in self._jobs() if vertex.launch(job) == record.launch] or [made]
        for job in _active(others):
            self._say(f"the create call was carried out twice: cancelling job {vertex.number(job)}")
            self._session.of(job).cancel(vertex.number(job))
        return first

    def _settle(self, record: Record, *, job: str | None = None, error: str | None = None) -> None:
        """Completes the record; a launch that worked is not undone by a note that did not."""
        try:
            records.settle(self._session, record, job=job, error=error)
        except RecordLost:
            self._say(f"the run's record {record.name} was taken over by another launcher")
        except (GoogleError, UserError) as trouble:
            self._say(f"could not complete the run's record {record.name}: {trouble}")

    def _jobs(self) -> list[dict[str, Any]]:
        """The run's jobs of one kind, in every region that is tried, the oldest first."""
        sessions = (self._session.in_region(region) for region in self._regions)
        found = [job for session in sessions for job in session.jobs(display_name=self._job.display_name)]
        own = [job for job in found if vertex.run(job) == self._job.run and vertex.kind(job) == self._job.kind]
        return sorted(own, key=lambda job: (str(job.get("createTime", "")), str(job["name"])))

    def _wait(self, reason: str) -> None:
        if reason != self._told:
            self._say(f"{reason}: waiting for it")
            self._told = reason
        time.sleep(pause(1))


def _active(jobs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that have not ended, one that goes on before one that is being cancelled."""
    active = [job for job in jobs if vertex.state(job) not in vertex.ENDED]
    return sorted(active, key=lambda job: vertex.state(job) == vertex.CANCELLING)

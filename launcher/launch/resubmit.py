"""`odcloud resubmit`: a run's training once more, from its record: the same packages, configuration, arguments and machines."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from typing import Any

from launcher import mlengine, vertex
from launcher.errors import UserError
from launcher.job import ProgramJob, RecordedJob
from launcher.launch import inputs, records, runs, training
from launcher.stack.session import Session, connect
from launcher.terminal import say


def resubmit(run: str, new: str | None, stack: str | None, follow: bool, dry_run: bool, form: str) -> int:
    """The command; returns its exit code. `new`: the id of the new run; the old one's to go on in its folder."""
    if new:
        runs.check_id(new)
    said, run = run, mlengine.run_id(run) if mlengine.is_name(run) else runs.check_id(run)
    session = connect(stack)
    record = last_record(session, run)
    require_same_inputs(session, record)
    if new != run and record["request"].get("labels", {}).get(vertex.KIND_LABEL) == ProgramJob.kind:
        require_idle_folder(session, record["request"], run, new)
        say(f"warning: job {said} got its folders as arguments, which stay: the new job goes on from what is there")
    if dry_run:
        print(json.dumps(renamed(record["request"], session.outputs.train_dir, run, new or runs.new_id()), indent=2))
        return 0
    launched = _launch(session, record["request"], run, new)
    again = f"odcloud resubmit {said} --run {vertex.run(launched.job)}"
    return training.watch_launched(session.of(launched.job), launched, follow, form, again, stack)[0]


def last_record(session: Session, run: str) -> dict[str, Any]:
    """What the run's last training, or the job of that name, was launched with. Raises UserError, GoogleError."""
    bucket = session.outputs.bucket
    found = max(
        (
            (match["kind"] == "train", int(match["n"]), item["name"])
            for item, match in records.listed(session, f"runs/{run}/")
            if match["kind"] != "eval"
        ),
        default=None,
    )
    if not found:
        place = f"gs://{bucket}/{session.own(f'runs/{run}')}"
        raise UserError(f"no record of a training {place}/train-….json; `odcloud jobs list` shows the runs")
    name = found[2]
    try:
        record = json.loads(session.google.download(bucket, name))
        record["request"]["jobSpec"]["workerPoolSpecs"]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"gs://{bucket}/{name} is not a record of a launch; launch with `odcloud train --config`") from None
    checked: dict[str, Any] = record
    return checked


def require_same_inputs(session: Session, record: Mapping[str, Any]) -> None:
    """Raises UserError if a package or the configuration is gone or is not what it was, and GoogleError."""
    known = record.get("inputs") or {}
    for uri in inputs.uris(record["request"]):
        now = inputs.checksum(session, uri)
        if now is None:
            raise UserError(
                f"{uri}, which run {record.get('run')} was launched with, is gone; launch anew with `odcloud train --config`"
            )
        if uri in known and known[uri] != now:
            raise UserError(
                f"{uri} has changed since run {record.get('run')} was launched with it (CRC32C {known[uri]}, now {now}); "
                "put the old one back, or launch anew with `odcloud train`"
            )


def require_idle_folder(session: Session, body: Mapping[str, Any], run: str, new: str | None) -> None:
    """Raises UserError while a job is at work in the folders of one of the old command line: its own, or one like it.

    One of the run `new` is not in the way: it is the job that is asked for.
    """
    told = _told(body)
    active = [job for job in session.jobs_everywhere() if vertex.state(job) not in vertex.ENDED and vertex.run(job) != new]
    for job in active:
        if vertex.run(job) == run or (any(told) and _told(job) == told):
            number = vertex.number(job)
            raise UserError(
                f"job {number} ({job['displayName']}, {vertex.state(job)}) is at work in the folders that the new job would "
                f"write to; let it end (`odcloud jobs wait {number}`, or cancel it: `odcloud jobs cancel {number}`), or submit "
                "with folders of its own (`odcloud ml-engine jobs submit training`)"
            )


def _told(body: Mapping[str, Any]) -> tuple[list[str], str]:
    """What says a job's folders: the arguments of all its programs, and the base of its output."""
    spec = body["jobSpec"]
    words = [word for pool in spec["workerPoolSpecs"] for word in inputs.program(pool).get("args", ())]
    return words, spec.get("baseOutputDirectory", {}).get("outputUriPrefix", "")


def renamed(body: Mapping[str, Any], train_dir: str, old: str, new: str) -> dict[str, Any]:
    """The request of another run: the old one's folder, name and labels become the new one's; all else stays. Pure."""
    folder = re.compile(rf"{re.escape(train_dir)}/{re.escape(old)}(?=/|$)")

    def moved(value: Any) -> Any:
        if isinstance(value, str):
            return folder.sub(f"{train_dir}/{new}", value)
        if isinstance(value, Mapping):
            return {name: moved(one) for name, one in value.items()}
        return [moved(one) for one in value] if isinstance(value, list) else value

    labels = {name: value for name, value in body.get("labels", {}).items() if name != vertex.LAUNCH_LABEL}
    labels[vertex.RUN_LABEL] = new
    return {**copy.deepcopy(dict(body)), "displayName": new, "jobSpec": moved(body["jobSpec"]), "labels": labels}


def _launch(session: Session, body: Mapping[str, Any], old: str, new: str | None) -> runs.Launched:
    def job(run: str) -> RecordedJob:
        kind = str(body.get("labels", {}).get(vertex.KIND_LABEL, RecordedJob.kind))
        return RecordedJob(run, run, renamed(body, session.outputs.train_dir, old, run), kind)

    return runs.launch(session, job(new), say) if new else runs.launch_new(session, job, say)

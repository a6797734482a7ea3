"""`odcloud resubmit`: a run's training once more, from its record: the same packages, configuration, arguments and machines."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from typing import Any

from launcher import vertex
from launcher.errors import UserError
from launcher.job import RecordedJob
from launcher.launch import inputs, records, runs, training
from launcher.stack.session import Session, connect
from launcher.terminal import say


def resubmit(run: str, new: str | None, stack: str | None, follow: bool, dry_run: bool, form: str) -> int:
    """The command; returns its exit code. `new`: the id of the new run; the old one's to go on in its folder."""
    runs.check_id(run)
    if new:
        runs.check_id(new)
    session = connect(stack)
    record = last_record(session, run)
    require_same_inputs(session, record)
    if dry_run:
        print(json.dumps(renamed(record["request"], session.outputs.train_dir, run, new or runs.new_id()), indent=2))
        return 0
    launched = _launch(session, record["request"], run, new)
    again = f"odcloud resubmit {run} --run {vertex.run(launched.job)}"
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

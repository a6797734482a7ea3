"""`odcloud ml-engine jobs …`: the old command's verbs on the service of today.

A job's name is unique, as it was on ML Engine. Vertex AI does not see to it, so the launch's record does (runs.py): a name that
has a record or a job is refused, with two exceptions. The very same submission while its job is under way finds that job and
makes no other: a script that is run again after its answer was lost. And a submission that made no job leaves its name free.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher import mlengine, vertex
from launcher.errors import UserError
from launcher.google.api import GoogleError
from launcher.job import ProgramJob
from launcher.jobfile import checks
from launcher.jobs import watch
from launcher.jobs.logs import Reader, clean, task_of
from launcher.jobs.view import View
from launcher.launch import packages, records, runs
from launcher.oldpage import shape
from launcher.stack.place import Place
from launcher.stack.session import Session
from launcher.terminal import say, table


@dataclass(frozen=True)
class Submission:
    """What the command line says. `flags`: see `mlengine.body`."""

    command: str
    name: str
    args: Sequence[str] = ()
    flags: Mapping[str, Any] = field(default_factory=dict)
    config: Path | None = None
    package_path: Path | None = None
    packages: Sequence[str] = ()
    project: str | None = None
    region: str | None = None
    staging_bucket: str | None = None
    stack: str | None = None
    choices: mlengine.Choices = field(default_factory=mlengine.Choices)
    engine: str = "vertex"
    dry_run: bool = False
    stream_logs: bool = False
    form: str = "text"


def submit(given: Submission) -> int:
    """Submits a training job; returns the exit code."""
    mlengine.check_name(given.name)
    if given.engine == "ml-engine" and not given.dry_run:
        raise UserError(
            "--engine ml-engine: ML Engine stopped serving training on 2025-01-31, so its request can only be looked at: add "
            "--dry-run; or leave --engine out to run the job on Vertex AI"
        )
    document, in_places = _file(given.config)
    in_file = document.get("trainingInput", {})
    names = packages.check(given.packages)
    place = Place.of(
        given.project,
        given.region,
        [
            given.staging_bucket,
            given.flags.get("trainingInput.jobDir") or in_file.get("jobDir"),
            next((name for name in [*names, *in_file.get("packageUris", ())] if name.startswith("gs://")), None),
        ],
        given.stack,
        in_file.get("region"),
    )
    found: list[packages.Local | str] = []
    if given.package_path:
        found.append(packages.Local(*packages.build(given.package_path), place.need("bucket"), place.prefix))
    found += [name if name.startswith("gs://") else packages.local(name, place.need("bucket"), place.prefix) for name in names]
    uris = [one if isinstance(one, str) else one.uri for one in found]
    flags = {
        **given.flags,
        "trainingInput.packageUris": uris or None,
        "trainingInput.region": place.need("region"),
    }
    old = mlengine.body(given.name, document, flags, given.args)
    # A place that a flag gave is not where the file says.
    places = {path: said for path, said in in_places.items() if flags.get(path) is None}
    job, warnings = mlengine.training_job(old, place.need("region"), given.choices, places)
    if given.engine == "ml-engine":  # what it was sent, which is what the job was made of
        print(json.dumps(old, indent=2))
        return 0
    if not given.region and in_file.get("region", place.need("region")) != place.need("region"):
        said = f"{place.need('region')} of the environment or of gcloud's settings goes before it, as it did for gcloud"
        warnings.insert(0, f"{in_places['trainingInput.region']}: {in_file['region']}: {said}; --region overrules both")
    for warning in warnings:
        say(f"warning: {warning}")
    if given.dry_run:
        print(json.dumps(vertex.custom_job(job), indent=2))
        return 0
    counts = {pool.role: pool.count for pool in job.pools}
    for note in checks.notes(counts.get("worker", 0), counts.get("ps", 0)):
        say(f"note: {note}")
    session = place.session()
    for package in found:
        if isinstance(package, packages.Local) and packages.upload(session.google, package):
            say(f"uploaded {package.name} to {package.uri}")
    _require_bucket(session)
    uploaded = {one.uri for one in found if isinstance(one, packages.Local)}
    packages.require(session.google, [uri for uri in old["trainingInput"].get("packageUris", ()) if uri not in uploaded])
    launched = _launch(session, job)
    return _submitted(session, launched, given)


def _file(path: Path | None) -> tuple[dict[str, Any], dict[str, str]]:
    if path is None:
        return {}, {}
    from launcher.jobfile import reading

    return reading.old(path)


def _require_bucket(session: Session) -> None:
    """Raises UserError when there is no bucket for the launch's record; a stack may have nothing to do with it."""
    bucket = session.outputs.bucket
    try:
        session.google.call("storage.objects.list", bucket=bucket, prefix=session.own("runs/"), maxResults=1)
    except GoogleError as error:
        if error.status != 404:
            raise
        raise UserError(
            f"the bucket gs://{bucket} does not exist; make it, or name another with --staging-bucket or --job-dir"
        ) from error


def _launch(session: Session, job: ProgramJob) -> runs.Launched:
    """Creates the job, or finds the one that the same submission made. Raises UserError when the name is taken."""
    there = _named(session, job)
    if not there:
        try:
            return runs.launch(session, job, say, new_run=True)
        except runs.RunTaken:
            there = _named(session, job)
    earlier = records.newest(session, job.run, job.kind)
    same = earlier is not None and _core(earlier.content.get("request") or {}) == _core(vertex.custom_job(job))
    if there:
        if same and vertex.state(there[0]) not in (*vertex.ENDED, vertex.CANCELLING):
            return runs.Launched(there[0], adopted=True)
    elif earlier and not earlier.job and (same or not earlier.open):
        return runs.launch(session, job, say)  # that launch made no job, or is under way, or was killed
    state = f" (job {vertex.number(there[0])}, {vertex.state(there[0])})" if there else ""
    raise UserError(
        f"job {job.display_name} exists already{state}: a name is used once, as on ML Engine (409 ALREADY_EXISTS); "
        "submit under another name, for example with `date +%s` at its end"
    )


def _named(session: Session, job: ProgramJob) -> list[dict[str, Any]]:
    """The jobs that were submitted under this name, the newest first."""
    return [one for one in session.jobs(display_name=job.display_name) if vertex.run(one) == job.run]


def _core(request: Mapping[str, Any]) -> dict[str, Any]:
    """What makes two submissions the same: all but the labels that a launch adds by itself."""
    labels = {key: value for key, value in request.get("labels", {}).items() if not key.startswith("odcloud-")}
    return {**request, "labels": labels}


def _submitted(session: Session, launched: runs.Launched, given: Submission) -> int:
    job = launched.job
    state = vertex.state(job)
    if launched.adopted:
        say(f"Job [{given.name}] is under way already: the same submission made it.")
    else:
        say(f"Job [{given.name}] submitted successfully.")
    if given.stream_logs:
        return _stream(session, job)
    found = {"project": session.outputs.project, "region": session.google.region}
    known = Place.of(None, None, (), given.stack)  # without flags
    where = "".join(f" --{name} {value}" for name, value in found.items() if getattr(known, name) != value)
    say(
        "Your job is still active. You may view the status of your job with the command\n\n"
        f"  $ {given.command} jobs describe {given.name}{where}\n\n"
        "or continue streaming the logs with the command\n\n"
        f"  $ {given.command} jobs stream-logs {given.name}{where}\n"
    )
    shape.write({"jobId": given.name, "state": state}, "yaml" if given.form == "text" else given.form)
    return 0


def show_list(place: Place, form: str, limit: int | None) -> int:
    """The jobs that odcloud launched, the newest first."""
    found = [job for job in place.session(bucket=False).jobs() if vertex.run(job)][:limit]
    if form != "text":
        shape.write([_resource(job) for job in found], form)
        return 0
    rows = [("JOB_ID", "STATUS", "CREATED")]
    rows += [(str(job["displayName"]), vertex.state(job), str(job["createTime"])[:19]) for job in found]
    table(rows)
    return 0


def describe(place: Place, name: str, form: str) -> int:
    """One job, its replicas included."""
    session = place.session(bucket=False)
    view = watch.snapshot(session, session.find(name))
    found = {**_resource(view.job), "replicas": view.facts()["replicas"]}
    shape.write(found, "yaml" if form == "text" else form)
    return 0


def cancel(place: Place, name: str) -> int:
    """Asks for a job's end, and does not wait for it."""
    session = place.session(bucket=False)
    job = session.find(name)
    if vertex.state(job) in vertex.ENDED:
        say(f"Job [{name}] has ended: {vertex.state(job)}.")
        return 0
    session.cancel(vertex.number(job))
    say(f"Job [{name}] is being cancelled.")
    return 0


def stream_logs(place: Place, name: str, replica: str | None) -> int:
    """A job's log, of all replicas or of one, until it ends; 0 if it succeeded, else 1."""
    session = place.session(bucket=False)
    job = session.find(name)
    return _stream(session, job, task_of(job, "--task-name", replica) if replica else None)


def _stream(session: Session, job: dict[str, Any], task: str | None = None) -> int:
    reader = Reader(session, job, task)
    view = View(job, reader.tasks)
    for entries, _ in watch.poll(session, view, reader, say):
        for entry in entries:
            for line in clean(entry.message).splitlines() or [""]:
                print(f"{entry.severity}\t{entry.time[:19]}\t{entry.replica:<8}\t{line}")
        sys.stdout.flush()
    say(f"Job [{job['displayName']}]: {view.state}")
    return 0 if view.state == vertex.SUCCEEDED else 1


def _resource(job: Mapping[str, Any]) -> dict[str, Any]:
    """A custom job in the old resource's words; its state is the service's own."""
    found = {
        "jobId": job["displayName"],
        "customJob": job["name"],
        "state": vertex.state(job),
        "createTime": job.get("createTime"),
        "startTime": job.get("startTime"),
        "endTime": job.get("endTime"),
        "errorMessage": (job.get("error") or {}).get("message"),
        "labels": dict(job.get("labels", {})),
    }
    return {key: value for key, value in found.items() if value is not None}

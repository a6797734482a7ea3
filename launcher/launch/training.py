"""`odcloud train` and `odcloud eval`: outputs and a job file to a job, found or created, and followed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher import vertex
from launcher.errors import UserError
from launcher.job import EvaluationJob, PythonPackage, TrainingJob
from launcher.launch import runs
from launcher.stack.lookup import Question
from launcher.stack.session import Session, attach
from launcher.terminal import say

if TYPE_CHECKING:
    from launcher.jobfile.resolve import Row
    from launcher.jobs.view import View
    from launcher.launch.packages import Local


def train(
    config: Path,
    run: str | None,
    stack: str | None,
    *,
    follow: bool,
    dry_run: bool,
    form: str,
    max_cost: float | None = None,
    fallback: Sequence[str] = (),
    scale_lr: bool = False,
    explain: bool = False,
    flags: Mapping[str, Any] | None = None,
) -> int:
    """The command; returns its exit code.

    `fallback`: regions to try after the stack's own. `flags`: what goes before the job file, by the keys of overrides.py.
    """
    for region in fallback:
        if not re.fullmatch(r"[a-z]+-[a-z]+\d+", region):
            raise UserError(f"--fallback-regions: {region!r} is no region; write them as us-east1,europe-west4")
    if run:
        runs.check_id(run)
    with Question(stack) as question:  # Pulumi starts while the job file is read
        from launcher.jobfile import learning_rate, overrides, reading, resolve
        from launcher.launch import packages

        file = reading.read(config, overrides.given(flags or {}, os.environ))
        session = attach(question.answer())
    file, local = packages.staged(session, file)
    resolved = resolve.training(session.outputs, file, run or runs.new_id())
    only_shown = dry_run or explain
    notes = list(file.notes)
    if scale_lr or not only_shown:  # what is only shown needs no bucket
        file, rate = learning_rate.held(session, file, resolved.pipeline_config, scale_lr, send=not only_shown)
        notes += rate
    for warning in file.warnings:
        say(f"warning: {warning}")
    if image := without_cuda(resolved.job, session.outputs.package_uris):
        say(
            f"warning: the trainer brings a newer TensorFlow than the one whose CUDA is in {image}: most likely it finds no "
            "GPU there, and trains on the CPUs. An image has both: odcloud image build --base-image "
            "tensorflow/tensorflow:2.20.0-gpu, odcloud image push, and then --image"
        )
    if max_cost is not None:
        from launcher.cost import quote

        file, told = quote.held(session, file, resolved.job, max_cost, fallback)
        for note in told:
            say(note)
    if only_shown:
        for note in notes:
            say(f"note: {note}")
        resolved = resolve.training(session.outputs, file, resolved.job.run)
        return _print_rows(resolved.rows, form) if explain else _print_request(resolved.job)

    def job_of(chosen: str) -> TrainingJob:
        return resolve.training(session.outputs, file, chosen).job

    _upload(session, local)
    notes = [f"note: {note}" for note in notes]
    regions = list(dict.fromkeys((session.google.region, *fallback)))
    while True:
        here, others = session.in_region(regions[0]), regions[1:]
        if run:
            launched = runs.launch(here, job_of(run), say, regions=others, notes=notes)
        else:
            launched = runs.launch_new(here, job_of, say, regions=others, notes=notes)
        notes = []
        if max_cost is not None and launched.adopted:
            say("warning: --max-cost is for new jobs; this one was there already, and its own timeout stands")
        job, region = launched.job, vertex.region(launched.job)
        run = vertex.run(job)
        if region != session.outputs.region:
            say(
                f"warning: the job is in {region}, the bucket stays in {session.outputs.region}: what crosses from one to the "
                "other is slower and charged as network traffic"
            )
        code, state = watch_launched(
            session.of(job), launched, follow, form, f"odcloud train --config {config} --run {run}", stack
        )
        regions = regions[regions.index(region) + 1 :] if region in regions else []
        if code != 1 or not regions or not _stockout(state):
            return code
        say(f"{region} had no machines for the job: trying {regions[0]}")


def without_cuda(job: TrainingJob, trainer: Sequence[str]) -> str | None:
    """The prebuilt image, if there is one, in which the stack's own packages (`trainer`) are to run on GPUs."""
    from launcher.jobfile import machines

    for pool in job.pools:
        program, accelerator = pool.program or job.program, pool.machine.accelerator_type or ""
        if not isinstance(program, PythonPackage) or not accelerator.startswith("NVIDIA"):
            continue
        if tuple(program.package_uris) == tuple(trainer) and machines.prebuilt(program.executor_image_uri):
            return program.executor_image_uri
    return None


def _stockout(job: Mapping[str, Any]) -> bool:
    """Whether a job failed before it ran, for want of machines or quota."""
    from launcher.google.explain import ELSEWHERE, explain_job

    return "startTime" not in job and explain_job(job.get("error") or {}).kind in ELSEWHERE


def evaluate(
    config: Path | None,
    run: str | None,
    stack: str | None,
    *,
    follow: bool,
    dry_run: bool,
    form: str,
    explain: bool = False,
    flags: Mapping[str, Any] | None = None,
) -> int:
    """The command; returns its exit code. `flags`: what goes before the job file, by the keys of overrides.py."""
    if run:
        runs.check_id(run)
    with Question(stack) as question:
        from launcher.jobfile import overrides, reading, resolve
        from launcher.launch import packages

        file = reading.read(config, overrides.given(flags or {}, os.environ, "eval"))
        session = attach(question.answer())
    file, local = packages.staged(session, file)
    run = run or runs.newest(session)
    resolved = resolve.evaluation(session.outputs, file, run)
    for warning in file.warnings:
        say(f"warning: {warning}")
    if explain:
        return _print_rows(resolved.rows, form)
    if dry_run:
        return _print_request(resolved.job)
    program = resolved.job.pools[0].program or resolved.job.program
    if "--continuous" not in program.args:  # which awaits the first one
        _require_checkpoint(session, run)
    _upload(session, local)
    launched = runs.launch(session, resolved.job, say)
    with_config = f" --config {config}" if config else ""
    return watch_launched(session.of(launched.job), launched, follow, form, f"odcloud eval{with_config} --run {run}", stack)[0]


def _upload(session: Session, local: Sequence[Local]) -> None:
    from launcher.launch import packages

    for package in local:
        if packages.upload(session.google, package):
            say(f"uploaded {package.name} to {package.uri}")


def _require_checkpoint(session: Session, run: str) -> None:
    """Raises UserError when a run has left nothing to evaluate (TensorFlow writes CHECKPOINT.index last)."""
    folder = f"{session.outputs.train_dir}/{run}"
    prefix = folder.removeprefix(f"gs://{session.outputs.bucket}/") + "/"
    if any(item["name"].endswith(".index") for item in session.objects(prefix)):
        return
    raise UserError(
        f"{folder} holds no checkpoint to evaluate; train it "
        f"(odcloud train --config JOB.yaml --run {run}), or name another run with --run"
    )


def _print_rows(rows: Sequence[Row], form: str) -> int:
    from launcher.jobfile import resolve

    print(json.dumps(resolve.facts(rows), indent=2) if form == "json" else resolve.table(rows))
    return 0


def _print_request(job: TrainingJob | EvaluationJob) -> int:
    print(json.dumps(vertex.custom_job(job), indent=2))
    return 0


def watch_launched(
    session: Session, launched: runs.Launched, follow: bool, form: str, again: str, stack: str | None
) -> tuple[int, Mapping[str, Any]]:
    """Says what was launched and follows it. The exit code, and the job as it was seen last."""
    job = launched.job
    number, chosen = vertex.number(job), f" --stack {stack}" if stack else ""
    ways = "\n".join(
        (
            f"  follow:  {again}{chosen}",
            f"  log:     odcloud jobs logs --follow {number}{chosen}",
            f"  cancel:  odcloud jobs cancel {number}{chosen}",
        )
    )
    say(f"{'following' if launched.adopted else 'launched'} {job['displayName']}: job {number}, {vertex.state(job)}")
    if not follow:
        if form == "json":
            from launcher.jobs.view import View

            _result(View(job), form, "")
        else:
            print(f"{job['displayName']} (job {number}): {vertex.state(job)}", flush=True)
        say(ways)
        return 0, job

    from launcher.jobs import watch
    from launcher.jobs.screen import screen
    from launcher.jobs.view import View

    display = screen()
    try:
        view = watch.follow(session, job, display)
    except KeyboardInterrupt:
        display.close()
        say(f"\ndetached: job {number} goes on\n{ways}")
        if form == "json":
            _result(View(session.get(number)), form, "")
        return 130, job
    finally:
        display.close()
    _result(view, form, watch.verdict(view))
    if view.state == vertex.SUCCEEDED:
        return 0, view.job
    for line in watch.autopsy(view):
        say(line)
    return 1, view.job


def _result(view: View, form: str, text: str) -> None:
    print(json.dumps(view.facts()) if form == "json" else text, flush=True)

"""`odcloud report`: fetches what a run left in the bucket and hands it to the trainer's report."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from launcher import vertex
from launcher.cost import prices, pricing
from launcher.data.datafiles import inside
from launcher.errors import UserError
from launcher.jobs import watch
from launcher.jobs.view import duration
from launcher.launch import runs
from launcher.stack.session import Session, connect


def report(run: str | None, stack: str | None, output: Path | None, form: str) -> int:
    """The command; returns the exit code of `python -m trainer.report`."""
    if run:
        runs.check_id(run)
    session = connect(stack)
    run = run or runs.newest(session)
    output = output or Path("report") / run
    with tempfile.TemporaryDirectory(prefix="odcloud-report-") as name:
        folder = Path(name)
        train_dir, eval_dir = folder / "train", folder / "eval"
        fetched = _fetch(session, f"{session.outputs.train_dir}/{run}", train_dir, _is_event)
        fetched += _fetch(session, f"{session.outputs.eval_dir}/{run}", eval_dir, _is_result)
        if not fetched:
            raise UserError(
                f"run {run} has left nothing to report on in {session.outputs.train_dir}/{run}; "
                "`odcloud jobs list` shows the runs"
            )
        options = [
            f"--train_dir={train_dir}",
            f"--eval_dir={eval_dir}",
            f"--output={output}",
            f"--run={run}",
            f"--format={form}",
        ]
        facts = _facts(session, run)
        if facts:
            (folder / "facts.json").write_text(json.dumps(facts))
            options.append(f"--facts={folder / 'facts.json'}")
        return subprocess.run([sys.executable, "-m", "trainer.report", *options], check=False).returncode


def _is_event(name: PurePosixPath) -> bool:
    return ".tfevents." in name.name


_RESULTS = ("metrics.json", "analysis.json", "detections.json", "detections.png", "best.png", "worst.png")


def _is_result(name: PurePosixPath) -> bool:
    return _is_event(name) or name.name in _RESULTS


def _fetch(session: Session, uri: str, folder: Path, wanted: Callable[[PurePosixPath], bool]) -> int:
    """Downloads the wanted objects under `uri` into `folder`, laid out as they are there; returns how many."""
    folder.mkdir()
    bucket = session.outputs.bucket
    prefix = uri.removeprefix(f"gs://{bucket}/") + "/"
    names = [item["name"] for item in session.objects(prefix) if wanted(PurePosixPath(item["name"]))]

    def download(name: str) -> None:
        path = inside(folder, bucket, name, name.removeprefix(prefix))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(session.google.download(bucket, name))

    with ThreadPoolExecutor(4) as threads:
        return sum(1 for _ in threads.map(download, names))


def _facts(session: Session, run: str) -> dict[str, Any] | None:
    """The run's newest training job, in the shape that the report reads; None when the service has forgotten it."""
    job = next((job for job in session.jobs_everywhere(display_name=run) if vertex.run(job) == run), None)
    if job is None:
        return None
    view = watch.snapshot(session.of(job), job)
    return {**view.facts(), "cost": _cost(job, view.seconds())}


def _cost(job: Mapping[str, Any], seconds: float | None) -> str | None:
    """What so many seconds of the job cost at list prices; None where its machines have none."""
    if not seconds:
        return None
    try:
        known = prices.listed()  # a report is no reason to ask Google's catalogue
        found = pricing.estimate(job, known)
    except UserError:
        return None
    most = "at most " if found.upper_bound else ""
    total = pricing.dollars_up(found.hourly * seconds / 3600)
    return f"{most}{total} for {duration(seconds)} at {known.region}'s list prices of {known.date} ({known.source})"

"""`odcloud cost`: what a job file's job costs, before anything is launched; and `--max-cost`, which is made of the same sum."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher import vertex
from launcher.cost import prices, pricing
from launcher.errors import UserError
from launcher.job import TrainingJob
from launcher.stack.lookup import Question
from launcher.stack.session import Session, attach
from launcher.terminal import say

if TYPE_CHECKING:
    from launcher.jobfile.reading import JobFile


def quote(config: Path, hours: float | None, stack: str | None, form: str, flags: Mapping[str, Any]) -> int:
    """The command; returns its exit code. `flags`: what goes before the job file (overrides.py). Raises UserError."""
    if hours is not None and not (math.isfinite(hours) and hours > 0):
        raise UserError(f"--hours {hours:g}: must be a number above 0")
    with Question(stack) as question:
        from launcher.jobfile import overrides, reading, resolve

        file = reading.read(config, overrides.given(flags, os.environ))
        session = attach(question.answer())
    for warning in file.warnings:
        say(f"warning: {warning}")
    body = vertex.custom_job(resolve.training(session.outputs, file, "quote").job)
    known, reason = prices.best(session.google, _today())
    found = pricing.estimate(body, known)
    limit = pricing.timeout(body)
    hours = hours or (limit / 3600 if limit else None)
    notes = _notes(found, known, reason, session.outputs.region)
    if form == "json":
        print(json.dumps(_facts(found, known, hours, notes), indent=2))
        return 0
    for item in found.items:
        print(f"  {item.role:<9} {item.count:>4} × {item.what:<24} {pricing.dollars(item.dollars):>10} / h")
    at_most = "at most " if found.upper_bound else ""
    print(f"{at_most}{pricing.dollars(found.hourly)} an hour")
    if hours:
        print(f"{at_most}{pricing.dollars(found.hourly * hours)} for {hours:g} h")
    for note in notes:
        print(note)
    return 0


def _facts(found: pricing.Estimate, known: prices.Prices, hours: float | None, notes: list[str]) -> dict[str, Any]:
    items = [{**dataclasses.asdict(item), "dollars": round(item.dollars, 6)} for item in found.items]
    return {
        "currency": "USD",
        "hourly": round(found.hourly, 6),
        "hours": hours,
        "total": None if hours is None else round(found.hourly * hours, 6),
        "upperBound": found.upper_bound,
        "items": items,
        "prices": {"source": known.source, "date": known.date, "region": known.region},
        "notes": notes,
    }


def _notes(found: pricing.Estimate, known: prices.Prices, reason: str | None, region: str) -> list[str]:
    notes = [f"prices of {known.date}, {known.region}, from {known.source}, with Vertex AI's fee of {known.fee:.0%}"]
    if reason:
        notes.append(reason)
    if known.region != region:
        notes.append(f"warning: these are not the prices of {region}, which differ")
    if found.upper_bound:
        notes.append("Spot and flex-start prices are not known here: the full price is counted, which they do not exceed")
    return notes


def held(session: Session, file: JobFile, job: TrainingJob, most: float, fallback: Sequence[str]) -> tuple[JobFile, list[str]]:
    """The job file with the timeout within which its job costs at most `most` dollars, and what to say about it.

    `fallback`: regions beside the session's in which the job may come to run; the dearest counts. Raises UserError, also where
    only another region's prices are known.
    """
    body = vertex.custom_job(job)
    priced = []
    for region in (session.google.region, *fallback):
        known, reason = prices.best(session.in_region(region).google, _today())
        if known.region != region:  # one region may be half as dear again as another
            raise UserError(
                f"--max-cost {most:g}: no prices of {region} are known ({reason}), and by those of {known.region} the limit "
                f"might not hold; enable cloudbilling.googleapis.com, launch in {known.region}, or limit the job by --timeout"
            )
        found = pricing.estimate(body, known)
        priced.append((found.hourly, _notes(found, known, reason, region)))
    hourly, notes = max(priced, key=lambda one: one[0])
    timeout = pricing.timeout_within(body, most, hourly)
    seconds = float(timeout.removesuffix("s"))
    told = f"the job ends after {timeout} at the latest: {pricing.dollars(hourly * seconds / 3600)} of {pricing.dollars(most)}"
    if pricing.timeout(body) is None:
        scheduling = file.job.scheduling.model_copy(update={"timeout": timeout})
        places = {**file.places, ("scheduling", "timeout"): "--max-cost"}
        file = dataclasses.replace(file, job=file.job.model_copy(update={"scheduling": scheduling}), places=places)
    return file, [told, *notes]


def _today() -> str:
    return datetime.now(timezone.utc).date().isoformat()

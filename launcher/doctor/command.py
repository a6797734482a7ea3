"""The command: runs the checks and shows what they found."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from launcher import vertex
from launcher.doctor import data, estimates, project, quota, storage
from launcher.doctor.case import ERROR, OK, SKIPPED, WARNING, Case, Check, Finding, error, ok, skipped
from launcher.errors import UserError
from launcher.google.api import GoogleError
from launcher.stack.session import Session, connect

# Checks of one group run one after the other, for the later need what the earlier found; groups run side by side.
GROUPS: tuple[Mapping[str, Check], ...] = (
    {"project": project.project},
    {"billing": project.billing},
    {"APIs": project.apis},
    {"permissions": project.jobs},
    {"trainer's account": project.trainer},
    {"quotas": quota.quotas},
    {"accelerators": quota.region},
    {"bucket": storage.bucket},
    {"trainer writes": storage.trainer_writes},
    {"packages": storage.packages},
    {"images": storage.images},
    {"data": data.data, "memory": estimates.memory, "checkpoint": storage.checkpoint},
    {"disk": estimates.disk},
)
_MARKS = {OK: "ok", WARNING: "WARNING", ERROR: "ERROR", SKIPPED: "skipped"}


def doctor(config: Path | None, run: str | None, stack: str | None, form: str, flags: Mapping[str, Any]) -> int:
    """Returns the exit code: 1 if anything is an error. `flags`: what goes before the job file, by the keys of overrides.py.

    Raises UserError for a job file that is wrong.
    """
    found: dict[str, Finding] = {}
    try:
        session = connect(stack)
    except UserError as failure:
        said, _, fix = str(failure).partition("; ")
        found["stack"] = error(said, fix or "pulumi up")
    else:
        outputs = session.outputs
        found["stack"] = ok(f"project {outputs.project}, region {outputs.region}, bucket gs://{outputs.bucket}")
        found |= examine(_case(session, config, run, flags))
    print(json.dumps(_facts(found), indent=2) if form == "json" else _text(found))
    return 1 if any(one.state == ERROR for one in found.values()) else 0


def _case(session: Session, config: Path | None, run: str | None, flags: Mapping[str, Any]) -> Case:
    """What is examined: the request that `odcloud train` would send, if a job file is given. Raises UserError."""
    if config is None:
        return Case(session, None, run)
    from launcher.jobfile import overrides, reading, resolve
    from launcher.launch import packages, runs

    if run:
        runs.check_id(run)
    file, local = packages.staged(session, reading.read(config, overrides.given(flags, os.environ)))
    body = vertex.custom_job(resolve.training(session.outputs, file, run or "doctor").job)
    return Case(session, body, run, local=tuple(package.uri for package in local))


def examine(case: Case) -> dict[str, Finding]:
    """Each check's finding, in order. Without credentials there is nothing to ask."""
    found = {"credentials": carried_out(project.credentials, case)}
    if found["credentials"].state == ERROR:
        return found | {name: skipped("not looked at: the credentials come first") for group in GROUPS for name in group}

    def together(group: Mapping[str, Check]) -> dict[str, Finding]:
        return {name: carried_out(check, case) for name, check in group.items()}

    with ThreadPoolExecutor(8) as threads:
        for findings in threads.map(together, GROUPS):
            found |= findings
    return found


def carried_out(check: Check, case: Case) -> Finding:
    """A check's finding; what it could not find out is skipped, with the reason, and never ends the others."""
    try:
        return check(case)
    except GoogleError as failure:
        if failure.status is None:
            return skipped(f"cannot reach {'/'.join(failure.url.split('/')[:3])}: {failure.message}")
        return skipped(f"{failure.status} {failure.reason}: {failure.message}", failure.explanation.advice or None)
    except UserError as failure:
        return skipped(str(failure))


def _facts(found: Mapping[str, Finding]) -> list[dict[str, Any]]:
    return [{"check": name, "state": one.state, "text": one.text, "fix": one.fix} for name, one in found.items()]


def _text(found: Mapping[str, Finding]) -> str:
    width = max(map(len, found))
    lines = []
    for name, one in found.items():
        lines.append(f"{_MARKS[one.state]:<8} {name:<{width}}  {one.text}")
        if one.fix:
            lines.append(f"{'':<8} {'':<{width}}  mend it: {one.fix}")
    counts = {state: sum(one.state == state for one in found.values()) for state in _MARKS}
    lines.append(", ".join(f"{count} {_counted(state, count)}" for state, count in counts.items() if count))
    return "\n".join(lines)


def _counted(state: str, count: int) -> str:
    return f"{state}s" if count > 1 and state in (WARNING, ERROR) else state

"""Launch records: `runs/RUN/KIND-N.json` in the stack's bucket, one for each launch. Whoever holds one may create its job.

A record is open from the moment it is written, which only one launcher can do (ifGenerationMatch=0), until it names the job
that was made or the error that kept it from being made. Its holder renews it before every create call that it sends later than
FRESH seconds after the last write. Another launcher takes an open record over, under its generation, when the holder

- is known to be gone (a process of this very machine and boot), for SETTLE seconds or, as no create call is sent later than
  that, FRESH + SETTLE seconds after the last write, or
- has not renewed it for LEASE seconds, which is longer than FRESH and any time a sent request stays under way.

A holder that lost its record finds out when it renews it, and creates nothing.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from launcher.google.api import GoogleError
from launcher.jobs.logs import moment
from launcher.launch import inputs
from launcher.stack.session import Session

LEASE = 120.0
"""Seconds after the last write for which an open record is its holder's, unless that is known to be gone."""
FRESH = 30.0
"""Seconds after a record's last write within which its holder may send a create call."""
SETTLE = 10.0
"""Seconds for which a create call without a clear answer is looked for, for it may still be under way."""

_NAME = re.compile(r"runs/(?P<run>[^/]+)/(?P<kind>train|eval|job)-(?P<n>\d+)\.json")


class RecordLost(Exception):
    """Another launcher has taken the record over."""


def clock() -> float:
    """Seconds that also pass while the machine sleeps, where the system has such a clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.time()


@dataclass
class Record:
    """A record as it was read or written last. `written`: when this process began to write it, by `clock()`; None if never."""

    name: str
    generation: int
    content: dict[str, Any]
    updated: str = ""
    written: float | None = None
    number: int = field(init=False)

    def __post_init__(self) -> None:
        match = _NAME.fullmatch(self.name)
        self.number = int(match["n"]) if match else 0

    @property
    def job(self) -> str | None:
        """The resource name of the job that was made."""
        return self.content.get("job")

    @property
    def open(self) -> bool:
        return not (self.job or self.content.get("error"))

    @property
    def launch(self) -> str:
        """The launch's id, which its job bears as a label; it stays when the record changes hands."""
        return str(self.content.get("launch", ""))

    @property
    def host(self) -> str:
        return str(self.content.get("launcher", {}).get("host", "unknown"))

    def fresh(self) -> bool:
        """Whether its holder may still send a create call on it."""
        return self.written is not None and clock() - self.written < FRESH

    def gone(self) -> bool:
        """Whether its holder is known to have ended: a process of this very machine and boot."""
        holder = self.content.get("launcher", {})
        if not holder.get("machine") or holder["machine"] != _machine():
            return False
        try:
            os.kill(int(holder["pid"]), 0)
        except ProcessLookupError:
            return True
        except (PermissionError, KeyError, ValueError, TypeError):
            pass
        return False


class Watch:
    """Another's open record, looked at again and again until it may be taken over. `name`: the record's that was looked at."""

    def __init__(self) -> None:
        self.name = ""
        self._generation = 0
        self._since = 0.0
        self._gone_since: float | None = None

    def reason(self, record: Record, date: datetime | None) -> str:
        """Why it is not to be touched yet; "" when it may be taken over. `date`: the time now by the service's own clock."""
        now = clock()
        if (self.name, self._generation) != (record.name, record.generation):
            self.name, self._generation, self._since, self._gone_since = record.name, record.generation, now, None
        passed = max(now - self._since, age(record, date))
        if not record.gone():
            return "" if passed > LEASE else f"another launcher ({record.host}) is launching this run"
        if self._gone_since is None:
            self._gone_since = now
        if now - self._gone_since > SETTLE or passed > FRESH + SETTLE:
            return ""
        return (
            f"the last launcher of this run ended before it knew what became of its create call, which may still be under "
            f"way for {SETTLE:.0f} s"
        )


def listed(session: Session, prefix: str) -> Iterator[tuple[dict[str, Any], re.Match[str]]]:
    """The stack's records under `prefix`: each object's resource, and the parts of its name (run, kind, n)."""
    for item in session.objects(session.own(prefix)):
        match = _NAME.fullmatch(item["name"].removeprefix(session.outputs.prefix))
        if match:
            yield item, match


def newest(session: Session, run: str, kind: str) -> Record | None:
    """The last record of a run and kind, or None. Raises GoogleError, UserError."""
    while True:
        found = [(int(match["n"]), item) for item, match in listed(session, f"runs/{run}/") if match["kind"] == kind]
        if not found:
            return None
        item = max(found, key=lambda pair: pair[0])[1]
        try:
            text = session.google.download(session.outputs.bucket, item["name"], generation=int(item["generation"]))
        except GoogleError as error:
            if error.status == 404:  # written anew, or deleted, since it was listed
                continue
            raise
        try:
            content = json.loads(text)
        except ValueError:
            content = None
        if not isinstance(content, dict):
            content = {"error": "not a record"}
        return Record(item["name"], int(item["generation"]), content, str(item.get("updated", item.get("timeCreated", ""))))


def claim(session: Session, run: str, kind: str, number: int, body: Mapping[str, Any], launch: str) -> Record | None:
    """A new open record of one's own; None if that number is taken."""
    content = {
        "run": run,
        "kind": kind,
        "launch": launch,
        "launcher": _holder(),
        "created": now(),
        "parent": session.parent,
        "request": body,
        "inputs": inputs.checksums(session, body),
        "job": None,
        "error": None,
    }
    record = Record(session.own(f"runs/{run}/{kind}-{number}.json"), 0, content)
    return record if _write(session, record) else None


def take_over(session: Session, record: Record, body: Mapping[str, Any]) -> bool:
    """Makes another's open record one's own; False if it has changed since it was read."""
    record.content = {**record.content, "launcher": _holder(), "request": body, "inputs": inputs.checksums(session, body)}
    record.content.setdefault("launch", new_launch())
    return _write(session, record)


def renew(session: Session, record: Record) -> None:
    """Makes a held record fresh. Raises RecordLost."""
    record.content["renewed"] = now()
    if not _write(session, record):
        raise RecordLost(record.name)


def settle(session: Session, record: Record, *, job: str | None = None, error: str | None = None) -> None:
    """Notes in a record what became of the launch. Raises RecordLost."""
    record.content.update(job=job, error=error, settled=now())
    if not _write(session, record):
        raise RecordLost(record.name)


def new_launch() -> str:
    """An id for a launch that can be a label."""
    return uuid.uuid4().hex


def _write(session: Session, record: Record) -> bool:
    """Writes a record over the generation it was read at; False if someone else did in the meantime."""
    bucket, began = session.outputs.bucket, clock()
    content = json.dumps(record.content, indent=2).encode()
    try:
        written = session.google.upload(bucket, record.name, content, "application/json", if_generation=record.generation)
    except GoogleError as error:
        if error.status != 412:
            raise session.explained(error) from error
        # A repeated upload may have met its own first try: whose record is it?
        written = session.google.call("storage.objects.get", bucket=bucket, object=record.name)
        try:
            if session.google.download(bucket, record.name, generation=int(written["generation"])) != content:
                return False
        except GoogleError as gone:
            if gone.status == 404:
                return False
            raise
    record.generation, record.written = int(written["generation"]), began
    return True


def _holder() -> dict[str, Any]:
    # `try` tells two writes of one process apart, which may be equal in all else.
    return {"host": socket.gethostname(), "machine": _machine(), "pid": os.getpid(), "try": uuid.uuid4().hex}


def _machine() -> str:
    """This boot of this machine and the container in it, where a process id means something; "" if that cannot be known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def age(record: Record, date: datetime | None) -> float:
    """Seconds since a record's last write, by the service's own clock; 0 when that did not tell its time."""
    return max(0.0, (date - moment(record.updated)).total_seconds()) if date and record.updated else 0.0


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")

"""A job's entries in Cloud Logging, read on and on: none lost, none twice.

Source: the API's `entries.list` (`LogEntry` in the discovery document logging.v2). Entries may become visible some time after
their timestamp, so each reading goes back a little, and what was seen is known by timestamp, insertId and log.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from launcher import vertex
from launcher.errors import UserError
from launcher.stack.session import Session

LATENESS = timedelta(seconds=20)
"""How long after its timestamp an entry may turn up and still be seen."""

_WRAPPING = frozenset({"message", "levelname", "attrs"})
"""What Vertex AI's agent makes of a line of a replica: `message` is the line, be it plain or JSON that it did not read."""

_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Entry:
    """One line of a replica or message of the service. `task` is workerpool0-0, … or `service`.

    `payload` is what a program, or the service, told as JSON; empty for a plain line."""

    time: str
    task: str
    severity: str
    message: str
    payload: Mapping[str, Any] = field(default_factory=dict)

    @property
    def replica(self) -> str:
        """The replica as users know it."""
        return vertex.replica_name(self.task)


def clean(text: str) -> str:
    """Text of a job, fit for a terminal: no control characters, whatever the job wrote."""
    return _CONTROL.sub("", text).rstrip()


def moment(text: str) -> datetime:
    """An RFC 3339 time, to the microsecond."""
    head, _, fraction = text.removesuffix("Z").partition(".")
    return datetime.strptime(head, "%Y-%m-%dT%H:%M:%S").replace(
        microsecond=int(fraction[:6].ljust(6, "0") or 0), tzinfo=timezone.utc
    )


def since(text: str, now: datetime) -> datetime:
    """The time that `--since` means: 30s, 10m, 2h or 1d before `now`, or an RFC 3339 time. Raises UserError."""
    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    try:
        if match := re.fullmatch(r"(\d{1,9})([smhd])", text):
            return now - timedelta(**{units[match[2]]: int(match[1])})
        found = datetime.fromisoformat(re.sub(r"[Zz]$", "+00:00", text))
        return (found if found.tzinfo else found.astimezone()).astimezone(timezone.utc)
    except (ValueError, OverflowError):
        raise UserError(
            f"--since {text!r}: give a time before now as 30s, 10m, 2h or 1d, or a time as {now:%Y-%m-%dT%H:%M:%SZ}"
        ) from None


def task_of(job: Mapping[str, Any], flag: str, replica: str) -> str:
    """The task of a job that a flag names as users know it. Raises UserError when the job has none such."""
    task, tasks = vertex.task_name(replica), vertex.tasks(job)
    if task not in (*tasks, "service"):
        names = ", ".join(vertex.replica_name(one) for one in tasks)
        raise UserError(f"{flag} {replica!r}: job {vertex.number(job)} has {names} (and: service)")
    return task


class Reader:
    """The entries of one job, or of one replica of it (`task`), in order of time, from `start` on."""

    def __init__(
        self, session: Session, job: Mapping[str, Any], task: str | None = None, start: datetime | None = None
    ) -> None:
        self._session = session
        self._number = vertex.number(job)
        self._task = task
        self.tasks = [one for one in vertex.tasks(job) if task in (None, one)]
        """The job's replicas that it reads of."""
        self._floor = max(moment(job["createTime"]) - timedelta(minutes=1), start or datetime.min.replace(tzinfo=timezone.utc))
        self._latest = self._floor
        self._seen: dict[tuple[str, str, str], datetime] = {}

    def new(self) -> list[Entry]:
        """The entries that were not there at the last call. Raises GoogleError."""
        entries: list[tuple[datetime, Entry]] = []
        for raw in self._fetch():
            key = (raw["timestamp"], raw.get("insertId", ""), raw.get("logName", ""))
            if key in self._seen:
                continue
            when = self._seen[key] = moment(raw["timestamp"])
            self._latest = max(self._latest, when)
            entries.append((when, entry_of(raw)))
        self._floor = max(self._floor, self._latest - LATENESS)
        self._seen = {key: when for key, when in self._seen.items() if when >= self._floor}
        return [entry for _, entry in sorted(entries, key=lambda pair: pair[0])]

    def _fetch(self) -> Iterator[dict[str, Any]]:
        wanted = f'resource.type="ml_job" AND resource.labels.job_id="{self._number}"'
        if self._task:
            wanted += f' AND resource.labels.task_name="{self._task}"'
        floor = self._floor.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        body: dict[str, Any] = {
            "resourceNames": [f"projects/{self._session.outputs.project}"],
            "filter": f'{wanted} AND timestamp>="{floor}"',
            "orderBy": "timestamp asc",
            "pageSize": 1000,
        }
        while True:
            page = self._session.google.call("logging.entries.list", body=body, repeat=True)
            yield from page.get("entries", ())
            if not page.get("nextPageToken"):
                return
            body["pageToken"] = page["nextPageToken"]


def entry_of(raw: Mapping[str, Any]) -> Entry:
    """A LogEntry of the API as the launcher reads it."""
    payload, severity = raw.get("jsonPayload", {}), raw.get("severity", "DEFAULT")
    message = str(raw.get("textPayload") or payload.get("message") or "")
    if payload.keys() <= _WRAPPING and "levelname" in payload:
        payload = _object(message)
        severity = str(payload.get("severity", severity))
        message = str(payload.get("message", message))
    labels = raw.get("resource", {}).get("labels", {})
    return Entry(raw["timestamp"], labels.get("task_name", ""), severity, message, payload)


def _object(text: str) -> Mapping[str, Any]:
    """The JSON object that a text is; empty for any other text."""
    try:
        found = json.loads(text) if text.startswith("{") else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, Mapping) else {}

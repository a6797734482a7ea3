"""What is known of a job from itself and from its log: replicas, progress, metrics, last lines. No input or output here."""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from launcher import vertex
from launcher.jobs.logs import Entry, clean, moment

LAST_LINES = 15
_LOUD = frozenset({"WARNING", "ERROR", "CRITICAL", "ALERT", "EMERGENCY"})


@dataclass
class Replica:
    """One replica; `state` is None until an entry of its life cycle (jsonPayload.replica) was seen."""

    task: str
    state: str | None = None
    exit_code: int | None = None
    restarts: int = 0
    start_time: str | None = None
    end_time: str | None = None
    spoke: bool = False
    lines: collections.deque[str] = field(default_factory=lambda: collections.deque(maxlen=LAST_LINES))

    @property
    def name(self) -> str:
        return vertex.replica_name(self.task)


@dataclass(frozen=True)
class Progress:
    """Where training is: seconds and steps per second; fields that the program did not tell are None."""

    step: int
    steps: int | None = None
    loss: float | None = None
    steps_per_second: float | None = None
    seconds_left: float | None = None

    def __str__(self) -> str:
        parts = [f"step {self.step}" + (f"/{self.steps}" if self.steps else "")]
        if self.loss is not None:
            parts.append(f"loss {self.loss:.4g}")
        if self.steps_per_second is not None:
            parts.append(f"{self.steps_per_second:.3g} steps/s")
        if self.seconds_left is not None:
            parts.append(f"{duration(self.seconds_left)} left")
        return " · ".join(parts)


class Note(NamedTuple):
    """Something that changed, in a line. `routine`: a display that shows every state need not say it, too."""

    text: str
    routine: bool = False


class View:
    """A job as it is now. Feed it with `update` and `absorb`; both return what changed."""

    def __init__(self, job: Mapping[str, Any], tasks: Iterable[str] | None = None) -> None:
        """`tasks`: the replicas as its log entries name them; by default those of a custom job's pools."""
        self.job = job
        self.replicas = {task: Replica(task) for task in (vertex.tasks(job) if tasks is None else tasks)}
        self.progress: Progress | None = None
        self.metrics: dict[str, float] | None = None

    @property
    def state(self) -> str:
        return vertex.state(self.job)

    @property
    def ended(self) -> bool:
        return self.state in vertex.ENDED

    def update(self, job: Mapping[str, Any]) -> list[Note]:
        """Takes the job as the service describes it now."""
        before, self.job = self.state, job
        return [Note(f"job {vertex.number(job)}: {self.state}", True)] if self.state != before else []

    def absorb(self, entries: Iterable[Entry]) -> list[Note]:
        """Takes new log entries, in order of time."""
        told: list[Note] = []
        for entry in entries:
            told += self._absorb(entry)
        return told

    def _absorb(self, entry: Entry) -> list[Note]:
        payload = entry.payload
        replica = self.replicas.get(entry.task)
        if replica and isinstance(payload.get("replica"), Mapping):
            return self._live(replica, payload["replica"])
        message = clean(entry.message)
        if replica:
            replica.spoke = True
            replica.lines.extend(message.splitlines())
        if isinstance(payload.get("metrics"), Mapping):
            self.metrics = {str(name): float(value) for name, value in payload["metrics"].items() if _is_number(value)}
        elif _is_number(payload.get("step")):
            numbers = {
                name: payload[name] for name in ("loss", "steps_per_second", "seconds_left") if _is_number(payload.get(name))
            }
            steps = int(payload["steps"]) if _is_number(payload.get("steps")) else None
            self.progress = Progress(int(payload["step"]), steps, **numbers)
        # A plain line on stderr counts as ERROR in the log, chatter or not; only what a program itself calls loud is told.
        if not replica or (payload and entry.severity in _LOUD):
            name = "" if entry.task in ("service", "") else f"{entry.replica}: "
            # What the service quotes of a replica's words is told once, at the end.
            lines = message.splitlines() if name else message.splitlines()[:1]
            return [Note(f"{name}{line}") for line in lines]
        return []

    def _live(self, replica: Replica, life: Mapping[str, Any]) -> list[Note]:
        before = (replica.state, replica.restarts)
        replica.state = str(life.get("state"))
        replica.exit_code = life.get("exitCode")
        replica.restarts = int(life.get("restarts") or 0)
        replica.start_time = life.get("startTime")
        replica.end_time = life.get("endTime")
        if before == (replica.state, replica.restarts):
            return []
        return [Note(f"{replica.name}: {self.described(replica)}", replica.state not in ("RESTARTING", "FAILED"))]

    def state_of(self, replica: Replica) -> str:
        """A replica's state; where the service does not report it, what the job's state and the log let one say."""
        if replica.state:
            return replica.state
        if self.ended:
            chief = replica.task == "workerpool0-0"
            return "SUCCEEDED" if chief and self.state == vertex.SUCCEEDED else "STOPPED"
        return "RUNNING" if replica.spoke or self.state == "RUNNING" else "PENDING"

    def described(self, replica: Replica) -> str:
        """State, exit code, restarts and time taken, in a line."""
        parts = [self.state_of(replica)]
        if replica.exit_code is not None:
            parts.append(f"exit code {replica.exit_code}")
        if replica.restarts:
            parts.append(f"restarted {replica.restarts}×")
        if replica.start_time and replica.end_time:
            parts.append(duration((moment(replica.end_time) - moment(replica.start_time)).total_seconds()))
        return " · ".join(parts)

    def failed_first(self) -> Replica | None:
        """The replica that failed first, if one did: by its life cycle, or where none is told by the job's error.

        Vertex AI's message: "The replica workerpool1-0 exited with a non-zero status of 1. …".
        """
        failed = [replica for replica in self.replicas.values() if replica.state == "FAILED"]
        if failed:
            return min(failed, key=lambda replica: replica.end_time or "~")
        named = re.findall(r"\bworkerpool\d+-\d+\b", str((self.job.get("error") or {}).get("message", "")))
        return next((self.replicas[task] for task in named if task in self.replicas), None)

    def seconds(self) -> float | None:
        """How long the job ran, or took until it ended without running."""
        start, end = self.job.get("startTime") or self.job.get("createTime"), self.job.get("endTime")
        return (moment(end) - moment(start)).total_seconds() if start and end else None

    def facts(self) -> dict[str, Any]:
        """The job for programs: the shape of every `--format json`, and of the facts that a report is given."""
        job = self.job
        facts: dict[str, Any] = {
            "run": vertex.run(job),
            "kind": vertex.kind(job),
            "job": vertex.number(job),
            "name": job.get("displayName"),
            "state": self.state,
            "createTime": job.get("createTime"),
            "startTime": job.get("startTime"),
            "endTime": job.get("endTime"),
            "error": job.get("error"),
            "replicas": [
                {
                    "name": replica.name,
                    "task": replica.task,
                    "state": self.state_of(replica),
                    "exitCode": replica.exit_code,
                    "restarts": replica.restarts,
                    "startTime": replica.start_time,
                    "endTime": replica.end_time,
                }
                for replica in self.replicas.values()
            ],
        }
        if self.metrics:
            facts["metrics"] = self.metrics
        return facts


def duration(seconds: float) -> str:
    """Seconds as people say them: 45 s, 2 min 51 s, 1 h 2 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value

"""What a job's program told of its progress, read from the job's log entries as they come.

The trainer prints JSON lines: `{"step", "steps", "loss", "steps_per_second", …}` while it trains, and for an evaluation
`{"step", "metrics": {"AP", …}}`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from localcloud.dashboard.curves import Point

KEPT_JOBS = 64
Entries = Callable[[str, str], Iterable[Mapping[str, Any]]]
"""(job's number, time of the last entry read or "") -> the later entries that tell of a step, in order."""


@dataclass
class Progress:
    """Loss and steps per second by step, metrics by step, and where training is. `last`: time of the last entry read."""

    steps: int | None = None
    step: int | None = None
    seconds_left: float | None = None
    loss: list[Point] = field(default_factory=list)
    speed: list[Point] = field(default_factory=list)
    metrics: dict[int, dict[str, float]] = field(default_factory=dict)
    last: str = ""

    @property
    def share(self) -> float | None:
        """How much of training is done, from 0 to 1."""
        return min(1.0, self.step / self.steps) if self.step is not None and self.steps else None

    def absorb(self, entry: Mapping[str, Any]) -> None:
        """Take the next entry. One of a step that was passed already begins anew from there: the job was restarted."""
        self.last = entry["timestamp"]
        payload = entry.get("jsonPayload", {})
        step = payload.get("step")
        if not _is_number(step):
            return
        if isinstance(payload.get("metrics"), Mapping):
            self.metrics[int(step)] = {name: float(value) for name, value in payload["metrics"].items() if _is_number(value)}
            return
        self.step = int(step)
        self.steps = int(payload["steps"]) if _is_number(payload.get("steps")) else self.steps
        self.seconds_left = float(payload["seconds_left"]) if _is_number(payload.get("seconds_left")) else None
        for name, points in (("loss", self.loss), ("steps_per_second", self.speed)):
            while points and points[-1][0] >= step:
                points.pop()
            if _is_number(payload.get(name)):
                points.append((float(step), float(payload[name])))


class Watched:
    """The progress of the jobs that were looked at last; each look reads only what is new."""

    def __init__(self, entries: Entries) -> None:
        self._entries = entries
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Progress] = OrderedDict()

    def progress(self, number: str) -> Progress:
        with self._lock:
            found = self._known.setdefault(number, Progress())
            self._known.move_to_end(number)
            while len(self._known) > KEPT_JOBS:
                self._known.popitem(last=False)
            for entry in self._entries(number, found.last):
                found.absorb(entry)
            return found


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300

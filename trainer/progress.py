"""What a log reader sees of training: one JSON object per line on stdout, as Cloud Logging takes it."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import deque
from typing import Any, TextIO

_WINDOW_SECONDS = 30.0


def log(message: str, severity: str = "INFO", **fields: Any) -> None:
    """Prints one structured log line: {"severity": …, "message": …, and the fields}."""
    _write(sys.stdout, {"severity": severity, "message": message, **fields})


def _write(stream: TextIO, line: dict[str, Any]) -> None:
    # The end of the line in the same write: another thread's line must not come between.
    stream.write(json.dumps(line, ensure_ascii=False) + "\n")
    stream.flush()


def duration(seconds: float) -> str:
    """A length of time as people say it: 45 s, 2 min 51 s, 3 h 5 min."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class Rate:
    """Steps per second over the last half minute."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, int]] = deque()

    def add(self, now: float, step: int) -> None:
        """now: seconds of any steady clock."""
        self._points.append((now, step))
        while len(self._points) > 2 and now - self._points[0][0] > _WINDOW_SECONDS:
            self._points.popleft()

    def value(self) -> float | None:
        """None until two different times are known."""
        if len(self._points) < 2 or self._points[-1][0] <= self._points[0][0]:
            return None
        return (self._points[-1][1] - self._points[0][1]) / (self._points[-1][0] - self._points[0][0])


class Progress:
    """Prints training's progress every few seconds from a thread of its own, also while a step takes long."""

    def __init__(self, steps: int, every: float = 5.0, stream: TextIO | None = None, silent: bool = False) -> None:
        """silent: says nothing, for of replicas that do the same steps one is enough to speak."""
        self._steps = steps
        self._silent = silent
        self._every = every
        self._stream = stream or sys.stdout
        self._rate = Rate()
        self._step = 0
        self._loss: float | None = None
        self._reported = -1
        self._phase = "starting"
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Progress:
        if not self._silent:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._silent:
            return
        self._stop.set()
        self._thread.join()
        if self._step > self._reported:
            self._report()

    def phase(self, text: str) -> None:
        """What happens before the first step; said in the progress lines until steps come."""
        with self._lock:
            self._phase = text

    def update(self, step: int, loss: float | None = None) -> None:
        """step: the global step reached; loss: that step's, None where training begins or resumes."""
        with self._lock:
            first = self._loss is None and loss is not None
            self._step = step
            self._loss = loss
            self._rate.add(time.monotonic(), step)
        if first and not self._silent:  # at once: the wait for it is long
            self._report()

    def steps_per_second(self) -> float | None:
        with self._lock:
            return self._rate.value()

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            self._report()

    def _report(self) -> None:
        with self._lock:
            line = self._line()
            self._reported = self._step
        _write(self._stream, line)

    def _line(self) -> dict[str, Any]:
        if self._loss is None:
            elapsed = duration(time.monotonic() - self._began)
            message = f"step {self._step}/{self._steps} · {self._phase} · {elapsed}"
            return {"severity": "INFO", "message": message, "step": self._step, "steps": self._steps}
        rate = self._rate.value()
        parts = [f"step {self._step}/{self._steps}", f"loss {self._loss:.3g}"]
        line = {"severity": "INFO", "message": "", "step": self._step, "steps": self._steps, "loss": round(self._loss, 4)}
        if rate:
            parts.append(f"{rate:.1f} steps/s")
            line["steps_per_second"] = round(rate, 2)
        if self._step >= self._steps:
            parts.append("saving")  # the last checkpoint, and what waits for it
        elif rate:
            left = (self._steps - self._step) / rate
            parts.append(f"{duration(left)} left")
            line["seconds_left"] = round(left)
        line["message"] = " · ".join(parts)
        return line

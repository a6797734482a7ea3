"""How workers and parameter servers learn that the chief is done: a small file in train_dir, which every replica reaches.

TensorFlow's servers only serve: nothing tells them that training ended. A file works the same on one machine, over a bucket's
mount and over gs://. It bears the job's id, so that a later job on the same train_dir does not end at once.
"""

from __future__ import annotations

import os
import time

from trainer import files, paths

FINISHED, FAILED = "finished", "failed"


class FinishMarker:
    """The file by which one job's replicas agree that it is over."""

    def __init__(self, train_dir: str, job: str | None = None) -> None:
        self._job = job if job is not None else os.environ.get("CLOUD_ML_JOB_ID", "")
        self.path = paths.join(train_dir, f"finished-{self._job or 'job'}.txt")
        # Without an id the file may be an earlier job's: then only a change of it counts.
        self._stale = None if self._job else self._text()

    def write(self, outcome: str) -> None:
        """Says that the job is over: `finished`, or `failed` for good."""
        files.write(self.path, f"{outcome} {time.time_ns()}\n")

    def read(self) -> str | None:
        """The outcome, or None while the job goes on."""
        text = self._text()
        if not text or text == self._stale:
            return None
        return text.split()[0]

    def _text(self) -> str | None:
        try:
            return files.read(self.path)
        except OSError:  # a bucket that does not answer now may do so later; the chief is who says what is wrong with train_dir
            return None


def ended_since(folder: str, moment: int) -> str | None:
    """The outcome of a job on this train_dir that ended after the moment (nanoseconds since 1970); None where there is none."""
    for path in files.matching(paths.join(folder, "finished-*.txt")):
        try:
            outcome, _, at = (files.read(path) or "").strip().partition(" ")
        except OSError:
            continue
        if at.isdigit() and int(at) >= moment:
            return outcome
    return None

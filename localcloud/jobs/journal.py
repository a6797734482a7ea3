"""What is written down about one job while it runs: its replicas' rows and its log entries, together or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from localcloud import logentries
from localcloud.cloud import rfc3339
from localcloud.jobs import limits, log, states, store
from localcloud.jobs.cluster import Replica
from localcloud.jobs.dialect import Dialect
from localcloud.jobs.lines import last_lines, read_lines
from localcloud.jobs.states import ReplicaState
from localcloud.jobs.store import ReplicaRow

if TYPE_CHECKING:
    from localcloud.cloud import Cloud


class Journal:
    """The journal of the job `number`. Its methods raise sqlite3.Error or OSError when the disk does not take it."""

    def __init__(self, cloud: Cloud, number: str, dialect: Dialect | None = None) -> None:
        self._cloud, self._number, self._dialect = cloud, number, dialect or Dialect()

    def now(self) -> str:
        """The time as it is stored."""
        return rfc3339(self._cloud.now())

    def folder(self, replica: Replica) -> Path:
        """Where a replica's output, exit status and working directory are."""
        return self._cloud.home / "jobs" / self._number / replica.task_name

    def say(self, message: str, severity: str = "INFO") -> None:
        """Log a message of the service about the job."""
        logentries.append(self._cloud, [log.service(self._cloud.project, self._number, message, severity)])

    def record(self, rows: Iterable[ReplicaRow], message: str) -> None:
        """Store replicas as they are now and log it; `{}` in the message stands for the replica's name."""
        with self._cloud.db.transaction():
            for row in rows:
                store.save_replica(self._cloud.db, self._number, row)
                name = self._dialect.task_name(row.replica)
                entry = log.lifecycle(self._cloud.project, self._number, name, row, message.format(name))
                logentries.append(self._cloud, [entry])

    def record_exit(self, row: ReplicaRow, state: ReplicaState) -> None:
        """Store and log that a replica has ended, and what that made of it."""
        row.state = state
        again = " It is restarted." if state is ReplicaState.RESTARTING else ""
        self.record([row], states.exit_message(self._dialect.task_name(row.replica), row.exit_code or 0) + again)

    def copy_output(self, row: ReplicaRow, *, final: bool = False) -> bool:
        """Turn what a replica has written since the last time into log entries; whether there was anything."""
        entries = []
        name = self._dialect.task_name(row.replica)
        offsets = dict(row.offsets)
        for stream in ("stdout", "stderr"):
            lines, offsets[stream] = read_lines(self.folder(row.replica) / f"{stream}.log", row.offsets[stream], final=final)
            entries += [log.output(self._cloud.project, self._number, name, stream, line) for line in lines]
        if not entries:
            return False
        before, row.offsets = row.offsets, offsets
        try:
            with self._cloud.db.transaction():
                logentries.append(self._cloud, entries)
                store.save_replica(self._cloud.db, self._number, row)
        except BaseException:
            row.offsets = before
            raise
        return True

    def failure(self, row: ReplicaRow) -> str:
        """Why a replica failed, with the last lines that it wrote."""
        folder = self.folder(row.replica)
        lines = last_lines(folder / "stderr.log") or last_lines(folder / "stdout.log")
        return states.failure_message(self._dialect.spoken(row.replica), row.exit_code or 0, lines, limits.noted(folder))

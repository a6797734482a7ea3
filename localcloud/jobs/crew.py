"""The replicas of a job as they are on this machine: started, adopted, watched, held to their limits, struck and ended.

What an exit means for the job is decided elsewhere (active.py).
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterable, Mapping
from typing import Any

from localcloud.jobs import cluster, launch, limits, memory, replica
from localcloud.jobs.cluster import Replica
from localcloud.jobs.journal import Journal
from localcloud.jobs.states import LIVE, ReplicaState
from localcloud.jobs.store import ReplicaRow


class Crew:
    """The replicas of one job, with their rows. `grace`: seconds from a pre-emption's SIGTERM to SIGKILL."""

    def __init__(self, job: launch.Job, journal: Journal, rows: Iterable[ReplicaRow], grace: float) -> None:
        self.rows: dict[Replica, ReplicaRow] = {row.replica: row for row in rows}
        self._job, self._journal, self._grace = job, journal, grace
        self._processes: dict[Replica, replica.Process] = {}
        self._preempted: dict[Replica, float] = {}  # and when they are killed, by the monotonic clock
        self._adopt()

    @property
    def working(self) -> bool:
        """Whether any replica runs, or has ended and was not watched since."""
        return bool(self._processes)

    def markers(self) -> set[str]:
        """The markers of the processes that belong to the job as it is now."""
        return {process.marker for process in self._processes.values()}

    def start_missing(self) -> None:
        """Start the replicas that should run and do not. Raises OSError, sqlite3.Error."""
        for row in self.rows.values():
            if row.state in LIVE and row.replica not in self._processes:
                self._start(row)

    def watch(self) -> tuple[list[ReplicaRow], set[Replica]]:
        """Log what the replicas wrote; those that have ended, with their exit codes, and which of these were pre-empted."""
        ended: list[ReplicaRow] = []
        preempted: set[Replica] = set()
        now = self._journal.now()
        for each, process in list(self._processes.items()):
            row = self.rows[each]
            exit_code = process.exit_code()
            if exit_code is None:
                if time.monotonic() > self._preempted.get(each, math.inf):
                    process.kill()
                self._journal.copy_output(row)
                continue
            process.kill()  # what it started and left
            self.remove_containers(process.marker)
            while self._journal.copy_output(row, final=True):
                pass
            del self._processes[each]
            if self._preempted.pop(each, None) is not None:
                exit_code = 128 + signal.SIGTERM
                preempted.add(each)
            row.exit_code, row.end_time, row.pid = exit_code, now, None
            ended.append(row)
        return ended, preempted

    def strike(self, struck: Replica, action: str) -> None:
        """Kill a replica, `preempt` it (SIGTERM now, SIGKILL later, a restart whatever its exit code) or `fill` its disk."""
        process = self._processes.get(struck)
        if process is None:
            return
        name = self._job.dialect.task_name(struck)
        if action == "fill":
            self._stop(struck, limits.OUT_OF_DISK, "Its disk was filled on request.")
        elif action == "preempt":
            self._preempted.setdefault(struck, time.monotonic() + self._grace)
            process.mark_preempted()
            self._journal.say(f"Replica {name} is being pre-empted.", "WARNING")
            members = replica.members(process.sessions(), lambda marker: marker == process.marker)
            replica.send(members, signal.SIGTERM)
        else:
            self._journal.say(f"Replica {name} is killed on request.", "WARNING")
            process.kill()

    def members(self) -> list[Any]:
        """Every living process of the job."""
        sessions = {session for process in self._processes.values() for session in process.sessions()}
        return replica.members(sessions, lambda marker: marker.startswith(self._job.prefix))

    def signal(self, number: int) -> None:
        """Send a signal to every living process of the job."""
        replica.send(self.members(), number)

    def forget(self) -> None:
        """Watch no replica any more."""
        self._processes.clear()

    def remove_containers(self, marker: str | None = None, keep: frozenset[str] = frozenset()) -> None:
        """Remove the containers left of a replica, or of all; a holder that was killed leaves its container running."""
        if any(cluster.image(self._job.spec, row.replica.pool) for row in self.rows.values()):
            from localcloud.jobs import container

            if marker:
                container.remove(marker)
            else:
                container.remove_all(self._job.prefix.removesuffix(":"), keep)

    # What they may take

    def sessions(self) -> dict[int, Replica]:
        """The sessions of the replicas that are processes: a container is held to its limits by engine and holder."""
        return {process.pid: each for each, process in self._processes.items() if not cluster.image(self._job.spec, each.pool)}

    def check_memory(self, used: Mapping[int, int]) -> bool:
        """Stop the replicas that take more memory than their machines have; `used` by session. Whether there were any."""
        stopped = False
        for session, each in self.sessions().items():
            limit = self._job.memory_limit(each)
            if used.get(session, 0) > limit and (taken := limits.memory_exactly(session)) > limit:
                self.starve(each, f"It took {memory.gib(taken)}, and {self._job.machine(each)}.")
                stopped = True
        return stopped

    def check_disk(self) -> None:
        """Stop the replicas whose files take more than their machines' disks hold."""
        for each in self.sessions().values():
            limit, taken = self._job.disk_limit(each), limits.disk(self._journal.folder(each))
            if taken > limit:
                self._stop(each, limits.OUT_OF_DISK, limits.over_disk(taken, limit))

    def starve(self, each: Replica, details: str) -> None:
        """Stop a replica for want of memory."""
        self._stop(each, limits.OUT_OF_MEMORY, details)

    def _stop(self, each: Replica, word: str, details: str) -> None:
        if each in self._processes:
            limits.note(self._journal.folder(each), word, details)
            self._processes[each].kill()

    def _adopt(self) -> None:
        """Go on with the replicas that another server started."""
        for row in self.rows.values():
            if row.pid is not None and row.state is ReplicaState.RUNNING:
                folder = self._journal.folder(row.replica)
                process = replica.adopt(row.pid, row.process_created or 0.0, folder, self._marker(row))
                self._processes[row.replica] = process
                if process.preempted:
                    self._preempted[row.replica] = time.monotonic() + self._grace
        self.remove_containers(keep=frozenset(self.markers()))  # of replicas that were started, but not stored

    def _start(self, row: ReplicaRow) -> None:
        row.attempt += 1
        every = {each.replica: each.port for each in self.rows.values()}
        process = self._job.start(row, every, self._journal.folder(row.replica), self._marker(row))
        self._processes[row.replica] = process
        row.state, row.exit_code, row.end_time = ReplicaState.RUNNING, None, None
        row.start_time = self._journal.now()
        row.pid, row.process_created = process.pid, process.created
        self._journal.record([row], "Replica {} is running.")

    def _marker(self, row: ReplicaRow) -> str:
        return f"{self._job.prefix}{row.replica.task_name}:{row.attempt}"

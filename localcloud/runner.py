"""Runs the local cloud's jobs: one thread watches all of them; what they do is in `localcloud.jobs`."""

from __future__ import annotations

import json
import logging
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from localcloud.jobs import memory, replica, reserve, states, store
from localcloud.jobs.active import ActiveJob, Patience
from localcloud.jobs.cluster import Replica
from localcloud.jobs.journal import Journal

if TYPE_CHECKING:
    from localcloud.cloud import Cloud

POLL = 0.15  # seconds between two looks at the replicas

_log = logging.getLogger("localcloud.runner")


class JobRunner:
    """Starts, watches and ends jobs. Its methods may be called from any thread and return at once (but for `stop`).

    As many run at once as `capacity` (bytes of memory; by default this machine's) has room for by their estimates, first in,
    first out; one that needs more than there is runs alone.
    """

    def __init__(self, cloud: Cloud, patience: Patience | None = None, capacity: int | None = None) -> None:
        self._cloud = cloud
        self._patience = patience or Patience()
        self._capacity = memory.capacity() if capacity is None else capacity
        self._jobs: dict[str, ActiveJob] = {}
        self._needs: dict[str, int] = {}  # of the jobs that run
        self._waiting: deque[tuple[str, int]] = deque()
        self._requests: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._stopping = False
        self._stop_by = 0.0
        self._thread = threading.Thread(target=self._run, name="job-runner", daemon=True)

    def start(self) -> None:
        """Go on with the jobs that another server left, end what it left of jobs that have ended, and take new ones."""
        unfinished = store.unfinished(self._cloud.db)
        for number in unfinished:
            row = store.job(self._cloud.db, number)
            if row is not None and row["state"] != states.QUEUED:
                self._take(number, _need(row))
        for number in unfinished:
            self._enqueue(number)
        adopted = {marker for job in self._jobs.values() for marker in job.markers()}
        home = f"{self._cloud.home}:"
        replica.send(replica.members((), lambda marker: marker.startswith(home) and marker not in adopted), signal.SIGKILL)
        self._thread.start()

    def submit(self, number: str) -> None:
        """Run a stored job, when its turn has come."""
        self._requests.put(lambda: self._enqueue(number))

    def cancel(self, number: str) -> None:
        """Shut a job down whose stored state is JOB_STATE_CANCELLING."""
        self._requests.put(lambda: self._cancel(number))

    def strike(self, number: str, replica: Replica, *, preempt: bool) -> None:
        """Kill a running replica of a job, or take its machine away."""
        self._requests.put(lambda: self._jobs[number].strike(replica, preempt=preempt) if number in self._jobs else None)

    def stop(self) -> None:
        """End every job and its replicas, and then the thread; returns when nothing runs any more."""
        if not self._thread.is_alive():
            return
        self._requests.put(self._stop)
        self._thread.join()

    def _enqueue(self, number: str) -> None:
        row = store.job(self._cloud.db, number)
        if row is None or number in self._jobs:
            return
        need = _need(row)
        if self._stopping or (not self._waiting and self._fits(need)):
            self._take(number, need)
            return
        self._waiting.append((number, need))
        used, room = memory.gib(sum(self._needs.values())), memory.gib(self._capacity)
        Journal(self._cloud, number).say(
            f"Job is queued: it needs about {memory.gib(need)} of memory, and {used} of the {room} that there"
            f" are for jobs are taken by those that run; {len(self._waiting) - 1} wait before it."
        )

    def _fits(self, need: int) -> bool:
        return not self._jobs or sum(self._needs.values()) + need <= self._capacity

    def _take_waiting(self) -> None:
        while self._waiting and self._fits(self._waiting[0][1]):
            self._take(*self._waiting[0])
            self._waiting.popleft()

    def _take(self, number: str, need: int) -> None:
        reserve.keep(self._cloud.home)
        try:
            self._jobs[number] = ActiveJob(self._cloud, number, self._patience)
        except LookupError:
            return
        self._needs[number] = need
        if self._stopping:
            self._jobs[number].stop()

    def _cancel(self, number: str) -> None:
        if number in self._jobs:
            self._jobs[number].cancel()
            return
        for waiting in self._waiting:
            if waiting[0] == number:
                self._waiting.remove(waiting)
                self._take(number, 0)  # it starts nothing, and ends at once
                return

    def _stop(self) -> None:
        self._stopping = True
        while self._waiting:
            self._take(*self._waiting.popleft())
        self._stop_by = time.monotonic() + self._patience.stop + 10
        for job in self._jobs.values():
            job.stop()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._finished():
            try:
                # With nothing to watch, sleep until something is asked for.
                request = self._requests.get(timeout=max(0.0, due - time.monotonic()) if self._jobs or self._waiting else None)
            except queue.Empty:
                request = None
            if request:
                try:
                    request()
                except Exception:
                    _log.exception("A request to the job runner failed")
            if time.monotonic() >= due or request:
                self._step()
                due = time.monotonic() + POLL

    def _finished(self) -> bool:
        if not self._stopping:
            return False
        if time.monotonic() > self._stop_by:  # a full disk must not keep the server from stopping
            for job in self._jobs.values():
                job.crash(TimeoutError("the local cloud was stopped"))
            return True
        return not self._jobs

    def _step(self) -> None:
        for number, job in list(self._jobs.items()):
            try:
                job.step()
            except Exception as error:
                if job.crash(error):
                    _log.exception("Job %s", number)
            if job.done:
                del self._jobs[number], self._needs[number]
        if not self._stopping:
            try:
                self._take_waiting()
            except Exception:
                _log.exception("The next job in the queue could not be taken")


def _need(row: Any) -> int:
    return memory.estimate(json.loads(row["body"])["jobSpec"])

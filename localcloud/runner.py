"""Runs the local cloud's jobs: one thread watches all of them; what they do is in `localcloud.jobs`."""

from __future__ import annotations

import json
import logging
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from localcloud.cloud import rfc3339
from localcloud.jobs import gpus, limits, memory, replica, reserve, states, store
from localcloud.jobs.active import ActiveJob
from localcloud.jobs.cluster import Replica
from localcloud.jobs.ending import Patience
from localcloud.jobs.journal import Journal
from localcloud.jobs.launch import Host
from localcloud.moments import micros_of

if TYPE_CHECKING:
    from localcloud.cloud import Cloud

POLL = 0.15  # seconds between two looks at the replicas
MEMORY_POLL = 1.0  # and at the memory that they take

_log = logging.getLogger("localcloud.runner")


class JobRunner:
    """Starts, watches and ends jobs. Its methods may be called from any thread and return at once (but for `stop`).

    As many run at once as the `host` (by default this machine) has memory for by their estimates, and GPUs, first in, first
    out; one that needs more than there is gets what there is.
    """

    def __init__(self, cloud: Cloud, patience: Patience | None = None, host: Host | None = None) -> None:
        self._cloud = cloud
        self._patience = patience or Patience()
        self._host = host or Host(gpus=gpus.detect())
        self._jobs: dict[str, ActiveJob] = {}
        self._needs: dict[str, Need] = {}  # of the jobs that run
        self._waiting: deque[tuple[str, Need]] = deque()
        self._looked_at_memory = self._looked_at_disks = 0.0
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
                self._take(number, self._need(row))
        for number in unfinished:
            self._enqueue(number)
        adopted = {marker for job in self._jobs.values() for marker in job.crew.markers()}
        replica.kill_all(self._cloud.home, adopted)
        self._thread.start()

    def submit(self, number: str) -> None:
        """Run a stored job, when its turn has come."""
        self._requests.put(lambda: self._enqueue(number))

    def cancel(self, number: str) -> None:
        """Ask for a job's end; one that has ended stays as it is."""
        running = (states.QUEUED, states.PENDING, states.RUNNING)
        if store.advance(self._cloud.db, number, running, states.CANCELLING, rfc3339(self._cloud.now())):
            self._requests.put(lambda: self._cancel(number))

    def strike(self, number: str, replica: Replica, action: str) -> None:
        """Kill a running replica of a job, take its machine away (`preempt`) or let its disk be full (`fill`)."""
        self._requests.put(lambda: self._jobs[number].crew.strike(replica, action) if number in self._jobs else None)

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
        need = self._need(row)
        if self._stopping or (not self._waiting and self._fits(need)):
            self._take(number, need)
            return
        self._waiting.append((number, need))
        used, room = memory.gib(sum(each.memory for each in self._needs.values())), memory.gib(self._host.memory)
        text = f"it needs about {memory.gib(need.memory)} of memory, and {used} of the {room} that there are for jobs"
        if need.gpus:
            free = len(gpus.free(self._cloud.db, self._host.gpus))
            text = f"it needs {need.gpus} GPUs, of which {free} are free, and {text.removeprefix('it needs ')}"
        Journal(self._cloud, number).say(
            f"Job is queued: {text} are taken by those that run; {len(self._waiting) - 1} wait before it."
        )

    def _fits(self, need: Need) -> bool:
        if sum(each.gpus for each in self._needs.values()) + need.gpus > len(self._host.gpus):
            return False
        return not self._jobs or sum(each.memory for each in self._needs.values()) + need.memory <= self._host.memory

    def _take_waiting(self) -> None:
        while self._waiting and self._fits(self._waiting[0][1]):
            self._take(*self._waiting[0])
            self._waiting.popleft()

    def _expire_waiting(self) -> None:
        """End the jobs that have waited for longer than they wanted to."""
        now = self._cloud.now().timestamp()
        for number, need in [waiting for waiting in self._waiting if waiting[1].expires < now]:
            with self._cloud.db.transaction():
                if store.advance(self._cloud.db, number, (states.QUEUED,), states.EXPIRED, rfc3339(self._cloud.now())):
                    message = "The job waited for longer than its scheduling.maxWaitDuration."
                    error = {"code": states.CODE_DEADLINE_EXCEEDED, "message": message}
                    store.end_job(self._cloud.db, number, states.EXPIRED, error, rfc3339(self._cloud.now()))
                    Journal(self._cloud, number).say(message, "ERROR")
                    self._waiting.remove((number, need))

    def _take(self, number: str, need: Need) -> None:
        reserve.keep(self._cloud.home)
        try:
            self._jobs[number] = ActiveJob(self._cloud, number, self._patience, self._host)
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
                self._take(number, Need(0, 0))  # it starts nothing, and ends at once
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
            for what in (self._look_at_usage, self._expire_waiting, self._take_waiting):
                try:
                    what()
                except Exception:
                    _log.exception("The job runner could not go on with %s", what.__name__)

    def _look_at_usage(self) -> None:
        """Stop the replicas that take more than their machines, or all that there is for jobs."""
        now = time.monotonic()
        if now >= self._looked_at_memory + MEMORY_POLL:
            self._looked_at_memory = now
            owners = {session: (job, each) for job in self._jobs.values() for session, each in job.crew.sessions().items()}
            used = limits.memory(owners) if owners else {}
            stopped = [job for job in self._jobs.values() if job.crew.check_memory(used)]
            if (
                not stopped
                and sum(used.values()) > self._host.memory
                and sum(map(limits.memory_exactly, used)) > self._host.memory
            ):
                largest = max(used, key=lambda session: used[session])
                job, each = owners[largest]
                job.crew.starve(
                    each,
                    f"It took {memory.gib(used[largest])}, more than any other, when the jobs together had used up the"
                    f" {memory.gib(self._host.memory)} that this machine has for them.",
                )
        if now >= self._looked_at_disks + limits.DISK_POLL:
            self._looked_at_disks = now
            for job in self._jobs.values():
                job.crew.check_disk()

    def _need(self, row: Any) -> Need:
        spec = json.loads(row["body"])["jobSpec"]
        expires = micros_of(row["create_time"]) / 1e6 + states.longest_wait(spec.get("scheduling", {}))
        return Need(memory.estimate(spec), min(gpus.needed(spec), len(self._host.gpus)), expires)


@dataclass(frozen=True)
class Need:
    """What a job is expected to take, bytes of memory and GPUs, and until when it waits, in seconds since 1970."""

    memory: int
    gpus: int
    expires: float = math.inf

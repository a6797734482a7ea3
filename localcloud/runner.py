"""Runs the local cloud's jobs: one thread watches all of them; what they do is in `localcloud.jobs`."""

from __future__ import annotations

import logging
import queue
import signal
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from localcloud.jobs import replica, reserve, store
from localcloud.jobs.active import ActiveJob, Patience

if TYPE_CHECKING:
    from localcloud.cloud import Cloud

POLL = 0.15  # seconds between two looks at the replicas

_log = logging.getLogger("localcloud.runner")


class JobRunner:
    """Starts, watches and ends jobs. Its methods may be called from any thread and return at once (but for `stop`)."""

    def __init__(self, cloud: Cloud, patience: Patience | None = None) -> None:
        self._cloud = cloud
        self._patience = patience or Patience()
        self._jobs: dict[str, ActiveJob] = {}
        self._requests: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._stopping = False
        self._stop_by = 0.0
        self._thread = threading.Thread(target=self._run, name="job-runner", daemon=True)

    def start(self) -> None:
        """Go on with the jobs that another server left, end what it left of jobs that have ended, and take new ones."""
        for number in store.unfinished(self._cloud.db):
            self._take(number)
        adopted = {marker for job in self._jobs.values() for marker in job.markers()}
        home = f"{self._cloud.home}:"
        replica.send(replica.members((), lambda marker: marker.startswith(home) and marker not in adopted), signal.SIGKILL)
        self._thread.start()

    def submit(self, number: str) -> None:
        """Run a stored job."""
        self._requests.put(lambda: self._take(number))

    def cancel(self, number: str) -> None:
        """Shut a job down whose stored state is JOB_STATE_CANCELLING."""
        self._requests.put(lambda: self._cancel(number))

    def stop(self) -> None:
        """End every job and its replicas, and then the thread; returns when nothing runs any more."""
        if not self._thread.is_alive():
            return
        self._requests.put(self._stop)
        self._thread.join()

    def _take(self, number: str) -> None:
        if number in self._jobs:
            return
        reserve.keep(self._cloud.home)
        try:
            self._jobs[number] = ActiveJob(self._cloud, number, self._patience)
        except LookupError:
            return
        if self._stopping:
            self._jobs[number].stop()

    def _cancel(self, number: str) -> None:
        if number in self._jobs:
            self._jobs[number].cancel()

    def _stop(self) -> None:
        self._stopping = True
        self._stop_by = time.monotonic() + self._patience.stop + 10
        for job in self._jobs.values():
            job.stop()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._finished():
            try:
                # With nothing to watch, sleep until something is asked for.
                request = self._requests.get(timeout=max(0.0, due - time.monotonic()) if self._jobs else None)
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
                del self._jobs[number]

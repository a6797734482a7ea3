"""A job that has not ended, step by step, by the runner's thread: what its replicas' exits mean, and what is to be done then.

Whatever was decided can be told again from the stored rows, so that another server goes on where this one was killed.
"""

from __future__ import annotations

import json
import math
import shutil
import signal
import time
from collections.abc import Mapping, Set
from typing import TYPE_CHECKING, Any

from localcloud.jobs import access, cluster, gpus, launch, limits, ports, replica, reserve, states, store
from localcloud.jobs.cluster import Replica
from localcloud.jobs.crew import Crew
from localcloud.jobs.dialect import dialect_of
from localcloud.jobs.ending import Ending, Patience
from localcloud.jobs.journal import Journal
from localcloud.jobs.preparation import Preparation, disk_error
from localcloud.jobs.states import LIVE, Decision, ReplicaState
from localcloud.jobs.store import ReplicaRow
from localcloud.moments import micros_of

if TYPE_CHECKING:
    from localcloud.cloud import Cloud

DEFAULT_TIMEOUT = 7 * 24 * 3600.0  # seconds
SHOWN_FAILURES = 3
_LAST_WORDS = {
    states.SUCCEEDED: "Job completed successfully.",
    states.CANCELLED: "Job was cancelled.",
    states.FAILED: "Job failed.",
}


class ActiveJob:
    """One job. `step()` does what is due and returns at once; `done` says that the job has ended and nothing of it runs.

    `crew`: its replicas on this machine."""

    def __init__(self, cloud: Cloud, number: str, patience: Patience, host: launch.Host | None = None) -> None:
        row = store.job(cloud.db, number)
        if row is None:
            raise LookupError(number)
        body = json.loads(row["body"])
        self.number = number
        self.done = row["state"] in states.ENDED
        self._cloud, self._patience = cloud, patience
        self._spec: Mapping[str, Any] = body["jobSpec"]
        self._job_restarts: int = row["restarts"]
        self._scheduling: Mapping[str, Any] = self._spec.get("scheduling", {})
        self._timeout = float(self._scheduling.get("timeout", "0s").removesuffix("s")) or DEFAULT_TIMEOUT
        dialect = dialect_of(body)
        self._host = host or launch.Host()
        self._launch = launch.Job(cloud, number, self._spec, row["location"], dialect, self._host)
        self._journal = Journal(cloud, number, dialect)
        self.crew = Crew(self._launch, self._journal, store.replicas(cloud.db, number), patience.terminate)
        self._preparation: Preparation | None = None
        self._ending: Ending | None = None
        self._broken: dict[str, Any] | None = None
        self._timeout_at = math.inf  # by the monotonic clock: the other one may be set
        if row["start_time"]:
            ran = cloud.now().timestamp() - micros_of(row["start_time"]) / 1e6
            self._timeout_at = time.monotonic() + self._timeout - ran
        self._counts_restart = True  # the restart of the whole job that is under way, among the three that it has
        self._left_in: str | None = row["state"]  # by the server before this one, until `step` has gone on from there

    @property
    def _rows(self) -> dict[Replica, ReplicaRow]:
        return self.crew.rows

    # What the outside asks for

    def cancel(self) -> None:
        """Shut the job down; its stored state is JOB_STATE_CANCELLING already."""
        if self._ending is None or self._ending.state is None:
            self._journal.say("Job cancellation request has been accepted.")
            self._end(states.CANCELLED, None, kill_after=self._patience.terminate)

    def stop(self) -> None:
        """Shut the job down because the server stops."""
        error = {"code": states.CODE_CANCELLED, "message": "The local cloud was stopped."}
        if self._ending is not None and self._ending.state is not None:
            self._ending.hasten(self._patience.stop)
        else:
            self._end(states.CANCELLED, error, kill_after=self._patience.stop)

    def crash(self, error: Exception) -> bool:
        """Give the job up after an error in `step`: nothing of it runs on, and its state is stored as soon as that is possible.

        Tells whether this is the first error."""
        first = self._broken is None
        if self._broken is None:
            self._broken = disk_error(self._cloud.home, error)
            reserve.release(self._cloud.home)
        if self._preparation:
            self._preparation.cancel()
        self.crew.signal(signal.SIGKILL)
        self.crew.remove_containers()
        return first

    # What is due

    def step(self) -> None:
        """Do what is due. Raises OSError, sqlite3.Error (call `crash` then)."""
        if self.done:
            return
        if self._broken is not None:
            self._give_up(self._broken)
            return
        if self._left_in is not None:
            state, self._left_in = self._left_in, None
            self._resume(state)
        if self._preparation is not None and self._ending is None:
            self._prepared(self._preparation)  # replicas that another server had started are looked at afterwards
            return
        self._watch()
        if self._ending is not None:
            self._shut_down(self._ending)
        elif not self._rows:
            self._prepare()
        else:
            self.crew.start_missing()
            self._check_timeout()

    def _resume(self, state: str) -> None:
        """Decide again what the server that stored the replicas' rows had decided about them."""
        if self._ending is not None:  # it was asked to end before its first step
            return
        rows = self._rows.values()
        if state == states.CANCELLING:
            self._end(states.CANCELLED, None, kill_after=self._patience.terminate)
            return
        failed = [row for row in rows if row.state is ReplicaState.FAILED]
        again = [row for row in rows if row.state is ReplicaState.RESTARTING]
        primary = [row for row in rows if row.replica.primary and row.state is ReplicaState.SUCCEEDED]
        # What ended first decided, and of what was found to have ended at once the primary replica.
        if primary and all(str(primary[0].end_time) <= str(row.end_time) for row in failed):
            self._succeed()
        elif failed:
            self._fail(failed)
        elif any(self._restart_is_of_all(row) for row in again):
            self._counts_restart = any(row.recent_restarts for row in again)
            self._end(None, None, kill_after=self._patience.failure)
        elif state == states.PENDING and rows:
            self._prepare()

    def _restart_is_of_all(self, row: ReplicaRow) -> bool:
        """Whether a replica that was to be restarted when the server before this one was killed took the job with it."""
        whole = self._scheduling.get("restartJobOnWorkerRestart") and not self._scheduling.get("disableRetries")
        return bool(whole) or row.recent_restarts > states.MAX_REPLICA_RESTARTS

    def _prepare(self) -> None:
        """Give the replicas their ports and start to install the packages."""
        db = self._cloud.db
        with db.transaction():
            if not store.advance(db, self.number, (states.QUEUED, states.PENDING), states.PENDING, self._journal.now()):
                return
            if not self._rows:
                everyone = cluster.replicas(self._spec)
                free = ports.allocate(len(everyone), store.ports_in_use(db))
                self._rows.update({each: ReplicaRow(each, port) for each, port in zip(everyone, free, strict=True)})
                self._journal.say("Job is preparing.")
                self._deal_gpus()
                self._journal.record(self._rows.values(), "Replica {} is waiting for its packages or image.")
        self._preparation = Preparation(self._cloud, self.number, self._spec, f"{self._launch.prefix}packages")
        self._preparation.start()

    def _deal_gpus(self) -> None:
        missing = gpus.deal(self._cloud.db, self.number, self._spec, self._host.gpus) if self._host.gpus else 0
        if missing:
            wanted = gpus.needed(self._spec)
            self._journal.say(
                f"The job asks for {wanted} GPUs, of which this machine gives it {wanted - missing}:"
                " the replicas that get none run on the CPU.",
                "WARNING",
            )

    def _prepared(self, preparation: Preparation) -> None:
        if preparation.is_alive():
            return
        self._preparation = None
        if preparation.error:
            for line in preparation.error["message"].splitlines():
                self._journal.say(line, "ERROR")
            self._end(states.FAILED, preparation.error)
            return
        for row in self._rows.values():
            if row.replica.pool in preparation.pythons:
                row.python = str(preparation.pythons[row.replica.pool])
        self.crew.start_missing()
        if store.advance(self._cloud.db, self.number, (states.PENDING, states.RUNNING), states.RUNNING, self._journal.now()):
            self._timeout_at = min(self._timeout_at, time.monotonic() + self._timeout)
            self._journal.say("Job is running.")
            for reason in access.refused_in_buckets(self._cloud, self._spec):
                self._journal.say(reason, "WARNING")

    def _watch(self) -> None:
        """Take note of the replicas that have ended."""
        ended, preempted = self.crew.watch()
        if not ended:
            return
        if self._ending is not None:
            for row in ended:
                self._journal.record_exit(row, self._ending.state_of(row.exit_code or 0))
        else:
            self._react(ended, preempted)

    def _react(self, ended: list[ReplicaRow], preempted: Set[Replica]) -> None:
        """Decide what the exits mean while the job runs."""
        decisions = {
            row.replica: states.decide(
                row.exit_code or 0,
                replica_restarts=row.recent_restarts,
                job_restarts=self._job_restarts,
                restart_job_on_worker_restart=bool(self._scheduling.get("restartJobOnWorkerRestart")),
                disable_retries=bool(self._scheduling.get("disableRetries")),
                preempted=row.replica in preempted,
                stopped=limits.noted(self._journal.folder(row.replica)) is not None,
            )
            for row in ended
        }
        failed = [row for row in ended if decisions[row.replica] is Decision.FAIL_JOB]
        again = [row for row in ended if decisions[row.replica] in (Decision.RESTART_REPLICA, Decision.RESTART_JOB)]
        for row in ended:
            if decisions[row.replica] is Decision.FAIL_JOB:
                self._journal.record_exit(row, ReplicaState.FAILED)
            elif decisions[row.replica] is Decision.REPLICA_SUCCEEDED:
                self._journal.record_exit(row, ReplicaState.SUCCEEDED)
        if any(row.replica.primary and row.state is ReplicaState.SUCCEEDED for row in ended):
            for row in again:
                self._journal.record_exit(row, ReplicaState.FAILED)
            self._succeed()
            return
        if failed:
            for row in again:
                self._journal.record_exit(row, ReplicaState.STOPPED)
            self._fail(failed)
            return
        for row in again:
            row.restarts += 1
            row.recent_restarts += row.replica not in preempted
            self._journal.record_exit(row, ReplicaState.RESTARTING)
        restarting = {each for each, decision in decisions.items() if decision is Decision.RESTART_JOB}
        if restarting:
            self._counts_restart = not restarting <= preempted
            self._end(None, None, kill_after=self._patience.failure)

    def _succeed(self) -> None:
        self._end(states.SUCCEEDED, None, grace=self._patience.success, kill_after=self._patience.terminate)

    def _fail(self, failed: list[ReplicaRow]) -> None:
        messages = [self._journal.failure(row) for row in failed[:SHOWN_FAILURES]]
        messages += access.refused_in_buckets(self._cloud, self._spec)  # likely the reason
        error = {"code": states.CODE_INVALID_ARGUMENT, "message": "\n".join(messages)}
        self._end(states.FAILED, error, kill_after=self._patience.failure)

    def _check_timeout(self) -> None:
        if time.monotonic() > self._timeout_at:
            error = {"code": states.CODE_DEADLINE_EXCEEDED, "message": states.timeout_message(self._timeout)}
            self._end(states.CANCELLED, error, kill_after=self._patience.terminate)

    def _end(self, state: str | None, error: dict[str, Any] | None, *, grace: float = 0.0, kill_after: float = 0.0) -> None:
        if self._preparation:
            self._preparation.cancel()
        self._ending = Ending(state, error, time.monotonic() + grace, kill_after)

    def _shut_down(self, ending: Ending) -> None:
        """Wait for the replicas that still run, then SIGTERM, then SIGKILL; when nothing is left, end or restart the job."""
        if self.crew.working:
            if number := ending.due(time.monotonic()):
                self.crew.signal(number)
            return
        if self._preparation is not None and self._preparation.is_alive():
            return
        self._preparation = None
        if left := self.crew.members():
            replica.send(left, signal.SIGKILL)
        elif ending.state is None:
            self._restart_all()
        else:
            self._finish(ending.state, ending.error)

    def _restart_all(self) -> None:
        self._ending = None
        message = "Job is restarted as a whole"
        with self._cloud.db.transaction():
            if self._counts_restart:
                self._job_restarts += 1
                store.count_job_restart(self._cloud.db, self.number, self._journal.now())
                message += f" ({self._job_restarts} of {states.MAX_JOB_RESTARTS})"
            self._journal.say(f"{message}.", "WARNING")
            for row in self._rows.values():
                row.recent_restarts = 0
                row.state = ReplicaState.PENDING
                store.save_replica(self._cloud.db, self.number, row)
        self.crew.start_missing()

    def _finish(self, state: str, error: dict[str, Any] | None) -> None:
        with self._cloud.db.transaction():
            for row in self._rows.values():
                if row.state in LIVE:
                    row.state = ReplicaState.STOPPED
                    self._journal.record([row], "Replica {} was stopped.")
            store.end_job(self._cloud.db, self.number, state, error, self._journal.now())
            message = _LAST_WORDS[state] + (f" {error['message']}" if error else "")
            self._journal.say(message, "ERROR" if state == states.FAILED else "WARNING" if error else "INFO")
        for each in self._rows:
            shutil.rmtree(self._journal.folder(each) / "work", ignore_errors=True)
        self.done = True

    def _give_up(self, error: dict[str, Any]) -> None:
        self.crew.forget()
        left = self.crew.members()
        replica.send(left, signal.SIGKILL)
        if not left and not (self._preparation and self._preparation.is_alive()):
            self._finish(states.FAILED, error)

"""How a job's replicas are brought to their end: how long each is waited for, and which signal is due when. Pure."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Any

from localcloud.jobs.states import ReplicaState


@dataclass(frozen=True)
class Patience:
    """Seconds that replicas are given: to end by themselves after the primary, and after SIGTERM until SIGKILL."""

    success: float = 15
    terminate: float = 10
    failure: float = 2
    stop: float = 5


@dataclass
class Ending:
    """A shutdown under way: to a state in which the job ends, or to a restart of the whole job when there is none.

    SIGTERM is due at `signal_at`, by the monotonic clock, and SIGKILL `kill_after` seconds after it was sent."""

    state: str | None
    error: dict[str, Any] | None
    signal_at: float
    kill_after: float
    signalled_at: float | None = None

    def due(self, now: float) -> int | None:
        """The signal to send now, if there is one."""
        if self.signalled_at is None and now >= self.signal_at:
            self.signalled_at = now
            return signal.SIGTERM
        if self.signalled_at is not None and now >= self.signalled_at + self.kill_after:
            return signal.SIGKILL
        return None

    def state_of(self, exit_code: int) -> ReplicaState:
        """What becomes of a replica that has ended meanwhile."""
        if self.state is None:
            return ReplicaState.RESTARTING
        if exit_code == 0:
            return ReplicaState.SUCCEEDED
        return ReplicaState.STOPPED if self.signalled_at is not None else ReplicaState.FAILED

    def hasten(self, kill_after: float) -> None:
        """Let nobody be waited for any more, and SIGKILL follow after so many seconds at the latest."""
        self.signal_at = 0
        self.kill_after = min(self.kill_after, kill_after)

"""What a replica's exit means for it and for its job, as Vertex AI decides it. No side effects.

Source: Vertex AI's page "Understand the custom training service". A common error (the user's code raised, no memory or disk is
left) is permanent; after any other a replica is restarted up to 5 times, then the whole job up to 3 times. A replica whose
machine was pre-empted is restarted on another, however often.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

MAX_REPLICA_RESTARTS = 5
MAX_JOB_RESTARTS = 3

QUEUED = "JOB_STATE_QUEUED"
PENDING = "JOB_STATE_PENDING"
RUNNING = "JOB_STATE_RUNNING"
SUCCEEDED = "JOB_STATE_SUCCEEDED"
FAILED = "JOB_STATE_FAILED"
CANCELLING = "JOB_STATE_CANCELLING"
CANCELLED = "JOB_STATE_CANCELLED"
EXPIRED = "JOB_STATE_EXPIRED"
ENDED = frozenset({SUCCEEDED, FAILED, CANCELLED, EXPIRED, "JOB_STATE_PARTIALLY_SUCCEEDED"})

# google.rpc.Code
CODE_CANCELLED = 1
CODE_INVALID_ARGUMENT = 3
CODE_DEADLINE_EXCEEDED = 4
CODE_PERMISSION_DENIED = 7
CODE_RESOURCE_EXHAUSTED = 8
CODE_INTERNAL = 13


class ReplicaState(str, Enum):
    """Where a replica stands."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    RESTARTING = "RESTARTING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"  # shut down from outside: the job ended or was cancelled before it did


LIVE = frozenset({ReplicaState.PENDING, ReplicaState.RUNNING, ReplicaState.RESTARTING})


class Decision(Enum):
    """What follows from a replica's exit while its job runs."""

    REPLICA_SUCCEEDED = "the replica is done"
    RESTART_REPLICA = "restart the replica"
    RESTART_JOB = "restart every replica"
    FAIL_JOB = "the job has failed"


def is_permanent(exit_code: int) -> bool:
    """Whether a non-zero exit is the code's own doing (1–127), not that of a signal (128+N as a shell counts it)."""
    return 1 <= exit_code < 128


def decide(
    exit_code: int,
    *,
    replica_restarts: int,
    job_restarts: int,
    restart_job_on_worker_restart: bool = False,
    disable_retries: bool = False,
    preempted: bool = False,
    stopped: bool = False,
) -> Decision:
    """What to do about a replica that exited while its job was running.

    `replica_restarts` are those of the replica since the job was last started as a whole, `job_restarts` those of the job.
    `disable_retries` overrides `restart_job_on_worker_restart`, as the Scheduling message says. `preempted`: its machine was
    taken away. `stopped`: it had used up its memory or disk.
    """
    if preempted and not disable_retries:
        return Decision.RESTART_JOB if restart_job_on_worker_restart else Decision.RESTART_REPLICA
    if exit_code == 0:
        return Decision.REPLICA_SUCCEEDED
    if is_permanent(exit_code) or disable_retries or stopped:
        return Decision.FAIL_JOB
    if not restart_job_on_worker_restart and replica_restarts < MAX_REPLICA_RESTARTS:
        return Decision.RESTART_REPLICA
    return Decision.RESTART_JOB if job_restarts < MAX_JOB_RESTARTS else Decision.FAIL_JOB


def signal_name(exit_code: int) -> str | None:
    """The signal that an exit code of 128+N tells of, e.g. SIGKILL, else None."""
    try:
        return signal.Signals(exit_code - 128).name if exit_code > 128 else None
    except ValueError:
        return None


def failure_message(task_name: str, exit_code: int, last_lines: Sequence[str], stopped: tuple[str, str] | None = None) -> str:
    """A failed job's error message in Vertex AI's words, with the last lines that the replica wrote.

    `stopped`: what it ran out of (`out-of-memory`), and the details.
    """
    name = signal_name(exit_code)
    status = f"{exit_code}({name})" if name else str(exit_code)
    message = f"The replica {task_name} exited with a non-zero status of {status}. Termination reason: Error."
    if stopped:
        message = f"The replica {task_name} ran {stopped[0]} and exited with a non-zero status of {status}. {stopped[1]}"
    return message + ("\n" + "\n".join(last_lines) if last_lines else "")


def exit_message(task_name: str, exit_code: int) -> str:
    """What the log says when a replica ends."""
    name = signal_name(exit_code)
    return f"Replica {task_name} exited with code {exit_code}{f' ({name})' if name else ''}."


def timeout_message(seconds: float) -> str:
    """The error of a job that ran longer than its scheduling.timeout. Google cancels such a job (ml v1: `maxRunningTime`)."""
    return f"The job was cancelled because it ran longer than its timeout of {seconds:g} seconds (jobSpec.scheduling.timeout)."


def longest_wait(scheduling: Mapping[str, Any]) -> float:
    """The seconds that a job waits for its machines at most: with the strategy FLEX_START a day, unless it says otherwise.

    Source: the Scheduling message of the aiplatform v1 discovery document; 0 is for ever.
    """
    if scheduling.get("strategy") != "FLEX_START":
        return math.inf
    return float(scheduling.get("maxWaitDuration", "86400s").removesuffix("s")) or math.inf

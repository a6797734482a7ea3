"""What exits mean."""

from __future__ import annotations

import pytest

from localcloud.jobs import states
from localcloud.jobs.states import Decision


@pytest.mark.parametrize(
    ("exit_code", "replica_restarts", "job_restarts", "decision"),
    [
        (0, 0, 0, Decision.REPLICA_SUCCEEDED),
        (1, 0, 0, Decision.FAIL_JOB),
        (125, 0, 0, Decision.FAIL_JOB),
        (127, 0, 0, Decision.FAIL_JOB),
        (137, 0, 0, Decision.RESTART_REPLICA),
        (143, 4, 0, Decision.RESTART_REPLICA),
        (139, 5, 0, Decision.RESTART_JOB),
        (139, 5, 2, Decision.RESTART_JOB),
        (139, 5, 3, Decision.FAIL_JOB),
    ],
)
def test_decisions(exit_code: int, replica_restarts: int, job_restarts: int, decision: Decision) -> None:
    assert states.decide(exit_code, replica_restarts=replica_restarts, job_restarts=job_restarts) is decision


def test_scheduling_options() -> None:
    assert states.decide(137, replica_restarts=0, job_restarts=0, restart_job_on_worker_restart=True) is Decision.RESTART_JOB
    assert states.decide(137, replica_restarts=0, job_restarts=3, restart_job_on_worker_restart=True) is Decision.FAIL_JOB
    assert (
        states.decide(137, replica_restarts=0, job_restarts=0, restart_job_on_worker_restart=True, disable_retries=True)
        is Decision.FAIL_JOB
    )


def test_messages() -> None:
    assert states.failure_message("workerpool0-0", 1, ["Traceback", "ValueError: x"]) == (
        "The replica workerpool0-0 exited with a non-zero status of 1. Termination reason: Error.\nTraceback\nValueError: x"
    )
    assert "status of 137(SIGKILL)." in states.failure_message("workerpool1-2", 137, [])
    assert states.exit_message("workerpool1-2", 139) == "Replica workerpool1-2 exited with code 139 (SIGSEGV)."
    assert states.exit_message("workerpool1-2", 255) == "Replica workerpool1-2 exited with code 255."

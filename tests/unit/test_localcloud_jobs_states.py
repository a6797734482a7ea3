"""What exits mean."""

from __future__ import annotations

import math

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


@pytest.mark.parametrize("exit_code", [0, 1, 143])
def test_a_pre_emption_is_always_followed_by_a_restart(exit_code: int) -> None:
    spent = {"replica_restarts": states.MAX_REPLICA_RESTARTS, "job_restarts": states.MAX_JOB_RESTARTS, "preempted": True}
    assert states.decide(exit_code, **spent) is Decision.RESTART_REPLICA
    assert states.decide(exit_code, **spent, restart_job_on_worker_restart=True) is Decision.RESTART_JOB
    assert states.decide(143, **spent, disable_retries=True) is Decision.FAIL_JOB


def test_what_is_used_up_stays_used_up() -> None:
    assert states.decide(137, replica_restarts=0, job_restarts=0, stopped=True) is Decision.FAIL_JOB


@pytest.mark.parametrize(
    ("scheduling", "seconds"),
    [
        ({}, math.inf),
        ({"maxWaitDuration": "60s"}, math.inf),
        ({"strategy": "FLEX_START"}, 86400),
        ({"strategy": "FLEX_START", "maxWaitDuration": "1.5s"}, 1.5),
        ({"strategy": "FLEX_START", "maxWaitDuration": "0s"}, math.inf),
    ],
)
def test_how_long_a_job_waits(scheduling: dict[str, str], seconds: float) -> None:
    assert states.longest_wait(scheduling) == seconds


def test_messages() -> None:
    assert states.failure_message("workerpool0-0", 1, ["Traceback", "ValueError: x"]) == (
        "The replica workerpool0-0 exited with a non-zero status of 1. Termination reason: Error.\nTraceback\nValueError: x"
    )
    assert "status of 137(SIGKILL)." in states.failure_message("workerpool1-2", 137, [])
    assert states.exit_message("workerpool1-2", 139) == "Replica workerpool1-2 exited with code 139 (SIGSEGV)."
    assert states.exit_message("workerpool1-2", 255) == "Replica workerpool1-2 exited with code 255."

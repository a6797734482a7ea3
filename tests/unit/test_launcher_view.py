"""What a job's log tells, and how it is shown."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from launcher.jobs import watch
from launcher.jobs.logs import Entry, clean, entry_of, moment
from launcher.jobs.screen import Plain
from launcher.jobs.view import Note, Progress, View, duration

POOL = {"machineSpec": {"machineType": "n1-standard-4"}, "pythonPackageSpec": {}}


def job(state: str, **more: Any) -> dict[str, Any]:
    return {
        "name": "projects/p/locations/us-central1/customJobs/42",
        "displayName": "object_detection_17",
        "labels": {"odcloud-run": "object_detection_17", "odcloud-kind": "train"},
        "jobSpec": {"workerPoolSpecs": [{**POOL, "replicaCount": "1"}, {**POOL, "replicaCount": "2"}]},
        "state": f"JOB_STATE_{state}",
        "createTime": "2026-01-01T00:00:00Z",
        **more,
    }


def line(task: str, message: str, severity: str = "INFO", **payload: Any) -> Entry:
    return Entry("2026-01-01T00:00:01Z", task, severity, message, {"message": message, **payload} if payload else {})


def life(task: str, state: str, code: int | None = None, restarts: int = 0, end: str | None = None) -> Entry:
    replica = {"state": state, "exitCode": code, "restarts": restarts, "startTime": "2026-01-01T00:00:10Z", "endTime": end}
    return line(task, f"Replica {task} is {state}.", replica=replica)


def test_replicas_live_and_die() -> None:
    view = View(job("PENDING"))
    assert view.absorb([life("workerpool0-0", "RUNNING"), life("workerpool1-1", "RESTARTING", 9, 1)]) == [
        Note("chief: RUNNING", routine=True),
        Note("worker-1: RESTARTING · exit code 9 · restarted 1×", routine=False),
    ]
    assert view.absorb([life("workerpool0-0", "RUNNING")]) == []
    assert view.absorb([life("workerpool0-0", "SUCCEEDED", 0, end="2026-01-01T00:01:15Z")]) == [
        Note("chief: SUCCEEDED · exit code 0 · 1 min 5 s", routine=True)
    ]
    assert view.update(job("RUNNING")) == [Note("job 42: RUNNING", routine=True)]
    assert view.update(job("RUNNING")) == []
    assert [(one["name"], one["state"], one["exitCode"]) for one in view.facts()["replicas"]] == [
        ("chief", "SUCCEEDED", 0),
        ("worker-0", "RUNNING", None),  # nothing was said of it, and the job runs
        ("worker-1", "RESTARTING", 9),
    ]


def test_progress_and_metrics() -> None:
    view = View(job("RUNNING"))
    view.absorb([line("workerpool0-0", "…", step=120, steps=600, loss=1.234567, steps_per_second=2.81, seconds_left=171)])
    assert str(view.progress) == "step 120/600 · loss 1.235 · 2.81 steps/s · 2 min 51 s left"
    view.absorb([line("workerpool0-0", "…", step=130, loss=float("nan"), steps=True)])
    assert view.progress == Progress(130)
    view.absorb([line("workerpool0-0", "…", step=600, metrics={"AP": 0.7123, "AP50": 0.83, "note": "x"})])
    assert view.progress == Progress(130)
    view.update(job("SUCCEEDED", startTime="2026-01-01T00:00:00Z", endTime="2026-01-01T00:04:46.5Z"))
    assert watch.verdict(view) == "object_detection_17 (job 42): SUCCEEDED after 4 min 46 s\nAP 0.712 · AP50 0.830"


def test_what_is_told_and_what_is_chatter() -> None:
    view = View(job("RUNNING"))
    told = view.absorb(
        [
            line("service", "Waiting for machines."),
            line("workerpool1-0", "I tensorflow/core: chatter", "ERROR"),
            line("workerpool1-0", "the learning rate is high", "WARNING", step=None),
            line("workerpool0-0", "plain output"),
        ]
    )
    assert [note.text for note in told] == ["Waiting for machines.", "worker-0: the learning rate is high"]


def test_an_autopsy_shows_the_replica_that_failed_first() -> None:
    view = View(job("RUNNING"))
    view.absorb(
        [
            *(line("workerpool1-0", f"line {number}", "ERROR") for number in range(40)),
            line("workerpool1-0", "ValueError: no such box", "ERROR"),
            life("workerpool1-0", "FAILED", 1, end="2026-01-01T00:01:00Z"),
            life("workerpool0-0", "FAILED", 143, end="2026-01-01T00:01:02Z"),
        ]
    )
    view.update(job("FAILED", error={"code": 3, "message": "The replica workerpool1-0 exited with a non-zero status of 1."}))
    lines = watch.autopsy(view)
    assert lines[:2] == ["The replica workerpool1-0 exited with a non-zero status of 1.", "last lines of worker-0:"]
    assert lines[-1] == "  ValueError: no such box"
    assert len(lines) == 17


def test_what_the_service_quotes_of_a_replica_is_said_once() -> None:
    view = View(job("RUNNING"))
    message = "The replica workerpool1-0 exited with a non-zero status of 1.\nTraceback:\nValueError: no such box"
    told = view.absorb(
        [
            *(line("workerpool1-0", text, "ERROR") for text in ("step 7", "Traceback:", "ValueError: no such box")),
            life("workerpool1-0", "FAILED", 1, end="2026-01-01T00:01:00Z"),
            line("service", f"Job failed. {message}", "ERROR"),
        ]
    )
    assert told[-1].text == "Job failed. The replica workerpool1-0 exited with a non-zero status of 1."
    view.update(job("FAILED", error={"code": 3, "message": message}))
    assert watch.autopsy(view) == [
        "The replica workerpool1-0 exited with a non-zero status of 1.",
        "last lines of worker-0:",
        "  step 7",
        "  Traceback:",
        "  ValueError: no such box",
    ]


def test_an_autopsy_says_what_to_do() -> None:
    quota = "The following quota metrics exceed quota limits: aiplatform.googleapis.com/custom_model_training_cpus"
    told = watch.autopsy(View(job("FAILED", error={"code": 8, "message": quota})))
    assert told[0] == quota
    assert told[1].startswith(
        "the quota aiplatform.googleapis.com/custom_model_training_cpus of the project in us-central1: ask"
    )


def test_a_job_s_own_control_characters_do_not_reach_the_terminal() -> None:
    assert clean("\x1b[31mred\x1b[0m \x1b]0;title\x07bell\r 50%\ttab\n") == "red ]0;titlebell 50%\ttab"
    view = View(job("RUNNING"))
    assert view.absorb([line("service", "a\x1b[2Jb")]) == [Note("ab")]


def test_plain_screens_get_lines_and_not_too_many() -> None:
    stream = io.StringIO()
    screen, view = Plain(stream), View(job("RUNNING"))
    for step in range(1, 100):
        view.progress = Progress(step, 600)
        screen.show(view)
    assert stream.getvalue() == "step 1/600\n"
    view.update(job("SUCCEEDED"))
    screen.show(view)
    assert stream.getvalue() == "step 1/600\nstep 99/600\n"


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (171, "2 min 51 s"), (3725, "1 h 2 min")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "micros"),
    [("2026-01-31T12:00:00Z", 0), ("2026-01-31T12:00:00.5Z", 500000), ("2026-01-31T12:00:00.123456789Z", 123456)],
)
def test_google_s_times_have_any_number_of_digits(text: str, micros: int) -> None:
    assert moment(text).microsecond == micros


def test_a_line_is_read_whether_or_not_the_service_had_read_its_json() -> None:
    """Vertex AI's agent wraps what a replica writes; a JSON line may be in the wrapping, beside it, or in its place."""
    frame = {"timestamp": "2026-01-01T00:00:00Z", "resource": {"labels": {"task_name": "workerpool0-0"}}, "severity": "ERROR"}

    def read(**payload: object) -> tuple[str, str, object]:
        entry = entry_of({**frame, "jsonPayload": payload})
        return entry.severity, entry.message, entry.payload

    told = {"severity": "INFO", "message": "step 3", "step": 3}
    wrapping = {"levelname": "ERROR", "attrs": {"tag": "workerpool0-0"}}
    assert read(message=json.dumps(told), **wrapping) == ("INFO", "step 3", told)
    for more in ({}, wrapping):
        assert read(message="step 3", step=3, **more) == ("ERROR", "step 3", {"message": "step 3", "step": 3, **more})
    for line in ("plain", "", "{", "[1]", '"x"'):
        assert read(message=line, **wrapping) == ("ERROR", line, {})
    assert entry_of({**frame, "textPayload": "by the service"}).payload == {}

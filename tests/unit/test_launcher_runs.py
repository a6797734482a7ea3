"""What a create call in trouble is waited for, over a real HTTP server that misbehaves on request."""

from __future__ import annotations

import time
from typing import Any

import pytest
from test_launcher_google import Service, client, service  # noqa: F401  (a fixture)
from test_launcher_vertex import OUTPUTS, RUN

from launcher.google import api
from launcher.google.api import GoogleError
from launcher.jobfile import reading, resolve
from launcher.launch import records, runs
from launcher.stack.session import Session

JOB = {"name": "projects/p/locations/us-central1/customJobs/7", "displayName": RUN, "state": "JOB_STATE_PENDING"}


@pytest.fixture
def server(service: Service) -> Service:  # noqa: F811
    return service


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses; they pass at once, by the records' clock, too."""
    made: list[float] = []
    monkeypatch.setattr(time, "sleep", made.append)
    monkeypatch.setattr(records, "clock", lambda: 1000.0 + sum(made))
    return made


def create(server: Service, said: list[str]) -> runs.Launched:
    session = Session(OUTPUTS, client(server))
    job = resolve.training(OUTPUTS, reading.read(None), RUN).job
    launch = runs._Launch(session, job, said.append, (), ())
    record = records.Record(f"runs/{RUN}/train-1.json", 1, {"launch": "l"}, written=records.clock())
    return launch._create_in(session, {"displayName": RUN, "labels": {}}, record)


def trouble(status: int, seconds: int) -> tuple[int, Any, dict[str, str]]:
    return status, {"error": {"code": status, "message": "Maintenance."}}, {"Retry-After": str(seconds)}


def test_a_service_that_is_not_asked_again_is_not_waited_for(server: Service, slept: list[float]) -> None:
    said: list[str] = []
    server.answers = [(200, {}, {}), trouble(503, 3600), *[(200, {}, {})] * 20]
    with pytest.raises(GoogleError, match="Maintenance"):
        create(server, said)
    assert sum(slept) == pytest.approx(records.SETTLE)
    assert said == ["create call failed (Maintenance.): looking for 10 s whether it made a job"]


def test_what_is_waited_for_is_said(server: Service, slept: list[float]) -> None:
    said: list[str] = []
    looks = [(200, {}, {})] * 6
    server.answers = [looks[0], trouble(503, 20), *looks, looks[0], trouble(429, 5), looks[0], (200, JOB, {}), looks[0]]
    # 0.5, 1, 2, 4, 8 and the rest of 20 s are six looks
    assert create(server, said).job == JOB
    assert said[:2] == [
        "create call failed (Maintenance.): looking for 20 s whether it made a job",
        "no job was made: trying again",
    ]
    assert said[2].startswith("create call failed (Maintenance.): trying again in 5.")


def test_a_page_in_the_place_of_an_answer_is_looked_behind(server: Service, slept: list[float]) -> None:
    said: list[str] = []
    labels = {"odcloud-run": RUN, "odcloud-kind": "train", "odcloud-launch": "l"}
    made = {"customJobs": [{**JOB, "labels": labels}]}
    server.answers = [(200, {}, {}), (200, b"<html>Sign in", {}), *[(200, made, {})] * 2]
    found = create(server, said)
    assert found.job["name"] == JOB["name"] and not found.adopted
    assert said[0].startswith(f"create call failed (200, '<html>Sign in'): looking for {records.SETTLE:.0f} s")
    assert api.STRANGE not in " ".join(said)

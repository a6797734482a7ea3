"""Jobs of the old command line once more, over a real HTTP server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from test_launcher_google import Service, client, service  # noqa: F401  (a fixture)
from test_launcher_vertex import OUTPUTS

from launcher import mlengine
from launcher.errors import UserError
from launcher.launch import resubmit
from launcher.stack.session import Session

NAME, RUN = "Dup_1", mlengine.run_id("Dup_1")
SPEC = {
    "workerPoolSpecs": [{"replicaCount": "1", "containerSpec": {"imageUri": "i", "args": ["--train_dir=gs://b/t"]}}],
    "baseOutputDirectory": {"outputUriPrefix": "gs://b/t"},
}


def labels(run: str) -> dict[str, str]:
    return {"odcloud-run": run, "odcloud-kind": "job"}


def job(run: str, state: str, spec: dict[str, Any]) -> dict[str, Any]:
    name = "projects/p/locations/us-central1/customJobs/7"
    return {"name": name, "displayName": run, "state": f"JOB_STATE_{state}", "labels": labels(run), "jobSpec": spec}


def script(server: Service, *jobs: dict[str, Any]) -> None:
    record = {"run": RUN, "request": {"displayName": NAME, "jobSpec": SPEC, "labels": labels(RUN)}}
    listed = {"items": [{"name": f"runs/{RUN}/job-1.json", "generation": "1"}]}
    server.answers = [(200, listed, {}), (200, record, {}), (200, {}, {}), (200, {"customJobs": list(jobs)}, {})]


@pytest.fixture
def server(service: Service, monkeypatch: pytest.MonkeyPatch) -> Service:  # noqa: F811
    monkeypatch.setattr(resubmit, "connect", lambda stack: Session(OUTPUTS, client(service)))
    return service


OTHER = {**SPEC, "baseOutputDirectory": {"outputUriPrefix": "gs://b/other"}}


def test_a_job_goes_on_in_its_folders_and_that_is_said(server: Service, capsys: pytest.CaptureFixture[str]) -> None:
    # The last is the very job that is asked for, made by the same command before.
    script(server, job(RUN, "SUCCEEDED", SPEC), job("another", "RUNNING", OTHER), job("again", "RUNNING", SPEC))
    assert resubmit.resubmit(NAME, "again", None, False, True, "text") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"displayName": "again", "jobSpec": SPEC, "labels": labels("again")}
    assert printed.err.startswith(f"warning: job {NAME} got its folders as arguments, which stay")
    assert server.requests[0][1].partition("prefix=")[2].startswith(f"runs%2F{RUN}%2F")


@pytest.mark.parametrize("active", [job(RUN, "PENDING", OTHER), job("object_detection_1", "RUNNING", SPEC)])
def test_a_job_whose_folders_are_in_use_is_not_launched_once_more(server: Service, active: dict[str, Any]) -> None:
    script(server, active)
    with pytest.raises(UserError, match=f"^job 7 .{active['displayName']}, .* is at work in the folders"):
        resubmit.resubmit(NAME, "again", None, False, True, "text")


def test_to_go_on_with_the_run_itself_follows_its_job(server: Service, capsys: pytest.CaptureFixture[str]) -> None:
    script(server)
    assert resubmit.resubmit(NAME, RUN, None, False, True, "text") == 0
    assert capsys.readouterr().err == ""

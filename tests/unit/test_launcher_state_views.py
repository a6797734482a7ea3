"""States, times, pages and copies: what keeps a user in control, without a cloud."""

from __future__ import annotations

import json
import threading
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from test_launcher_view import job, life, line

from infra.outputs import StackOutputs
from launcher import vertex
from launcher.errors import UserError
from launcher.google.api import Google, GoogleError, document, override_name
from launcher.jobs import oldapi, page, verbs, watch
from launcher.jobs.logs import since
from launcher.jobs.view import View
from launcher.launch import inputs, resubmit
from launcher.oldpage import shape
from launcher.results.tensorboard import write
from launcher.stack.session import Session

# Every state that the discovery document knows: whether the job has ended, and what is said of a replica that said nothing.
STATES = {
    "UNSPECIFIED": (False, "PENDING"),
    "QUEUED": (False, "PENDING"),
    "PENDING": (False, "PENDING"),
    "RUNNING": (False, "RUNNING"),
    "SUCCEEDED": (True, "SUCCEEDED"),
    "FAILED": (True, "STOPPED"),
    "CANCELLING": (False, "PENDING"),
    "CANCELLED": (True, "STOPPED"),
    "PAUSED": (False, "PENDING"),
    "EXPIRED": (True, "STOPPED"),
    "UPDATING": (False, "PENDING"),
    "PARTIALLY_SUCCEEDED": (True, "STOPPED"),
}
NOW = datetime(2030, 1, 31, 12, 0, 0, tzinfo=timezone.utc)


def test_the_table_has_every_documented_state() -> None:
    schema = document("aiplatform")["schemas"]["GoogleCloudAiplatformV1CustomJob"]
    assert {f"JOB_STATE_{name}" for name in STATES} == set(schema["properties"]["state"]["enum"])


@pytest.mark.parametrize("state", STATES)
def test_a_state_is_shown_as_it_is(state: str) -> None:
    ended, chief = STATES[state]
    found = job(state)
    view = View(found)
    assert vertex.state(found) == verbs._row(found)["state"] == view.facts()["state"] == state
    assert view.ended is ended
    assert view.state_of(view.replicas["workerpool0-0"]) == chief
    assert watch.verdict(view).startswith(f"object_detection_17 (job 42): {state}")


def test_a_cancelled_job_is_told_where_its_log_may_not_be_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(session: Session, found: dict[str, Any]) -> View:
        raise GoogleError("logging.entries.list", "https://logging.googleapis.com/", 403, "PERMISSION_DENIED", "no")

    monkeypatch.setattr(verbs, "_found", lambda text, stack: (None, job("CANCELLED")))
    monkeypatch.setattr(watch, "snapshot", refuse)
    assert verbs.cancel("42", True, None, "json") == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["state"] == "CANCELLED"
    assert "warning: what became of the replicas is not known: " in said.err


def test_a_state_of_tomorrow_is_shown_too() -> None:
    view = View(job("HIBERNATING"))
    assert (view.state, view.ended) == ("HIBERNATING", False)


def test_the_first_to_fail_is_found_by_its_life_cycle() -> None:
    view = View(job("FAILED", error={"message": "The replica workerpool0-0 exited with a non-zero status of 1."}))
    view.absorb(
        [line("workerpool1-1", "ValueError: no corners"), life("workerpool0-0", "FAILED", 1, end="2026-01-01T00:02:00Z")]
    )
    view.absorb([life("workerpool1-1", "FAILED", 1, end="2026-01-01T00:01:00Z")])
    assert watch.autopsy(view)[-2:] == ["last lines of worker-1:", "  ValueError: no corners"]


def test_the_first_to_fail_is_found_by_the_service_s_message() -> None:
    view = View(job("FAILED", error={"message": "The replica workerpool1-0 exited with a non-zero status of 1. See the logs."}))
    view.absorb([line("workerpool1-0", "ValueError: no corners"), line("workerpool0-0", "all is well")])
    assert watch.autopsy(view)[-2:] == ["last lines of worker-0:", "  ValueError: no corners"]


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("30s", "2030-01-31T11:59:30+00:00"),
        ("10m", "2030-01-31T11:50:00+00:00"),
        ("2h", "2030-01-31T10:00:00+00:00"),
        ("1d", "2030-01-30T12:00:00+00:00"),
        ("2030-01-31T11:00:00Z", "2030-01-31T11:00:00+00:00"),
        ("2030-01-31T11:00:00+02:00", "2030-01-31T09:00:00+00:00"),
    ],
)
def test_since(text: str, time: str) -> None:
    assert since(text, NOW).isoformat() == time


@pytest.mark.parametrize("text", ["", "10", "ten minutes", "-5m", "999999999d", "2030-13-01T00:00:00Z"])
def test_since_what(text: str) -> None:
    with pytest.raises(UserError, match=r"--since .*: give a time before now as 30s, 10m, 2h or 1d"):
        since(text, NOW)


def session(**endpoints: str) -> Session:
    known: dict[str, Any] = {
        name: f"gs://b/{name}" for name in ("train_dir", "eval_dir", "data_dir", "staging_dir", "pipeline_config_path")
    }
    outputs = StackOutputs(
        **known,
        project="p",
        region="europe-west4",
        bucket="b",
        label_map_path="gs://b/l",
        package_uris=["gs://b/p"],
        python_modules={},
        executor_image_uri="i",
        image_repository="r",
        service_account="a",
        labels={},
        endpoints=endpoints,
    )
    return Session(outputs, Google("europe-west4", endpoints))


def test_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(override_name("aiplatform"), raising=False)
    console = "https://console.cloud.google.com/vertex-ai"
    assert page.url(session(), "42") == f"{console}/locations/europe-west4/training/42?project=p"
    assert page.url(session(), None) == f"{console}/training/custom-jobs?project=p"
    monkeypatch.setenv("GOOGLE_OAUTH_ACCESS_TOKEN", "t")
    with pytest.raises(UserError, match=r"cannot reach http://127.0.0.1:1/: .*odcloud local status"):
        page.url(session(aiplatform="http://127.0.0.1:1/"), "42")


def test_a_service_without_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(override_name("aiplatform"), raising=False)
    monkeypatch.setenv("GOOGLE_OAUTH_ACCESS_TOKEN", "t")
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:  # answers 501 to every POST
        threading.Thread(target=server.handle_request, daemon=True).start()
        assert page.url(session(aiplatform=f"http://127.0.0.1:{server.server_port}/"), "42") is None


def test_a_copy_that_grows_is_appended_to_and_any_other_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a/events"
    write(path, b"one")
    with path.open("rb") as reader:
        assert reader.read() == b"one"
        write(path, b"one two")
        assert reader.read() == b" two"
        write(path, b"three")
        assert reader.read() == b""
    assert path.read_bytes() == b"three"
    assert list(path.parent.iterdir()) == [path]


def test_a_recorded_request_becomes_another_run_s() -> None:
    pool = {
        "replicaCount": "1",
        "pythonPackageSpec": {
            "args": ["--train_dir=gs://b/train/old", "--init=gs://b/train/old/ckpt-1", "--x=gs://b/train/older"]
        },
    }
    body = {
        "displayName": "old",
        "jobSpec": {"workerPoolSpecs": [pool, {}], "baseOutputDirectory": {"outputUriPrefix": "gs://b/train/old"}},
        "labels": {"team": "cats", "odcloud-run": "old", "odcloud-kind": "train", "odcloud-launch": "1"},
    }
    made = resubmit.renamed(body, "gs://b/train", "old", "new")
    spec = made["jobSpec"]
    assert spec["workerPoolSpecs"][0]["pythonPackageSpec"]["args"] == [
        "--train_dir=gs://b/train/new",
        "--init=gs://b/train/new/ckpt-1",
        "--x=gs://b/train/older",
    ]
    assert spec["baseOutputDirectory"] == {"outputUriPrefix": "gs://b/train/new"}
    assert made["labels"] == {"team": "cats", "odcloud-run": "new", "odcloud-kind": "train"}
    assert body["displayName"] == "old" and "gs://b/train/old" in str(body)


def test_what_a_job_reads() -> None:
    python = {"packageUris": ["gs://b/p", "gs://b/q"], "args": ["--pipeline_config_path", "gs://b/c", "--x=gs://b/x"]}
    image = {"imageUri": "i", "args": ["--pipeline_config_path=gs://b/d"]}
    pools = [{"pythonPackageSpec": python}, {}, {"containerSpec": image}, {"containerSpec": {"imageUri": "i"}}]
    assert inputs.uris({"jobSpec": {"workerPoolSpecs": pools}}) == ["gs://b/p", "gs://b/q", "gs://b/c", "gs://b/d"]


def test_a_job_of_the_old_service_is_shown_by_its_log() -> None:
    ended = {
        "jobId": "old_1",
        "state": "FAILED",
        "createTime": "2026-01-01T00:00:00Z",
        "errorMessage": "The replica master 0 …",
    }
    found = oldapi.described(ended, "p")
    assert (vertex.number(found), vertex.state(found), found["error"]) == (
        "old_1",
        "FAILED",
        {"message": "The replica master 0 …"},
    )
    assert "endTime" not in found and "startTime" not in found
    names = ["ps-replica-0", "worker-replica-10", "service", "worker-replica-2", "master-replica-0"]
    ordered = ["master-replica-0", "worker-replica-2", "worker-replica-10", "ps-replica-0", "service"]
    assert sorted(names, key=oldapi._place) == ordered


@pytest.mark.parametrize("form", ["value()", "value(a b)", "value(a", "table(a)", "csv", "value(a,)", "value(a..b)"])
def test_forms_that_are_none(form: str) -> None:
    assert form not in shape.WORDS and shape.keys(form) is None


def test_values_are_printed_as_gcloud_prints_them(capsys: pytest.CaptureFixture[str]) -> None:
    resource = {"jobId": "a", "labels": {"x": "1", "y": "2"}, "uris": ["b", "c"], "state": None}
    shape.write([resource, {"jobId": "d"}], "value(jobId, labels, labels.y, uris, state)")
    assert capsys.readouterr().out == "a\tx=1;y=2\t2\tb;c\t\nd\t\t\t\t\n"

"""Staying in control, as a user types it: a real local cloud, a real Pulumi backend, real processes."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from free_port import free_port
from launcher_stage import BUCKET, Stage, enter

from launcher.cost.prices import listed


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with enter(tmp_path_factory.mktemp("stage")) as made:
        yield made


@pytest.fixture(scope="module")
def done(stage: Stage) -> dict[str, Any]:
    """A run that has ended well."""
    stage.behave(steps=2)
    found: dict[str, Any] = succeed(stage, "train", "--config", "job.yaml", "--run", "done")
    return found


def succeed(stage: Stage, *arguments: str) -> Any:
    """A command's JSON answer."""
    return json.loads(stage.run(*arguments, "--format", "json", check=True).stdout)


def failure(stage: Stage, *arguments: str, **environment: str) -> str:
    """A command's one message, when its input is wrong."""
    done = stage.run(*arguments, **environment)
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert done.stderr.startswith("odcloud: error: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_cost(stage: Stage) -> None:
    found = succeed(stage, "cost", "--config", "job.yaml", "--hours", "10")
    machine, disk = 0.21849885, 100 * 0.000267808
    assert found["hourly"] == pytest.approx(4 * (machine + disk), rel=1e-4)
    assert found["total"] == pytest.approx(10 * found["hourly"], rel=1e-4)
    # the local cloud's catalogue is the dated table, and says so
    assert found["prices"] == {
        **found["prices"],
        "source": "Cloud Billing's catalogue of Compute Engine",
        "date": listed().date,
    }
    text = stage.run("cost", "--config", "job.yaml", check=True).stdout
    assert "worker       2 × n1-standard-4" in text and "$0.98 an hour" in text and found["prices"]["date"] in text
    assert "--hours -1: must be a number above 0" in failure(stage, "cost", "--config", "job.yaml", "--hours", "-1")


def test_a_cost_that_is_capped(stage: Stage) -> None:
    command = ("train", "--config", "job.yaml", "--dry-run", "--max-cost")
    capped = stage.run(*command, "2", check=True)
    body = json.loads(capped.stdout)
    hourly = succeed(stage, "cost", "--config", "job.yaml")["hourly"]
    seconds = int(body["jobSpec"]["scheduling"]["timeout"].removesuffix("s"))
    assert seconds == pytest.approx(2 / hourly * 3600, abs=1)
    assert f"the job ends after {seconds}s at the latest" in capped.stderr
    assert "before it can get anywhere" in stage.run(*command, "0.01").stderr
    explained = succeed(stage, "train", "--config", "job.yaml", "--explain", "--max-cost", "2")
    assert {"name": "scheduling.timeout", "value": f"{seconds}s", "source": "flag --max-cost"} in explained
    stage.behave(steps=1)
    told = succeed(stage, "train", "--config", "job.yaml", "--run", "capped", "--max-cost", "2")
    record = json.loads((stage.folder / f".odcloud/buckets/{BUCKET}/runs/capped/train-1.json").read_text())
    assert record["request"]["jobSpec"]["scheduling"]["timeout"] == f"{seconds}s"
    assert told["state"] == "SUCCEEDED"


def test_a_log_from_a_time_on(stage: Stage, done: dict[str, Any]) -> None:
    lines = stage.run("jobs", "logs", "done", "--since", "1h", "--format", "json", check=True).stdout.splitlines()
    entries = [json.loads(line) for line in lines]
    middle = entries[len(entries) // 2]["time"]
    later = stage.run("jobs", "logs", "done", "--since", middle, "--format", "json", check=True).stdout.splitlines()
    # The command line takes times to the microsecond, entries have them to the nanosecond.
    assert [json.loads(line) for line in later] == [entry for entry in entries if entry["time"][:26] >= middle[:26]]
    assert 0 < len(later) < len(lines)
    assert stage.run("jobs", "logs", "done", "--since", "0s", check=True).stdout == ""
    one = stage.run("jobs", "logs", "done", "--replica", "worker-1", "--follow", "--since", "10m", check=True).stdout
    assert "worker 1 says hello" in one and "worker 0" not in one
    assert "--since 'soon': give a time" in failure(stage, "jobs", "logs", "done", "--since", "soon")


def test_a_clock_that_is_a_day_ahead_hides_nothing(stage: Stage, done: dict[str, Any]) -> None:
    ahead = """
import datetime, sys
from launcher import cli
from launcher.jobs import verbs
from launcher.stack import session
class Ahead(datetime.datetime):
    @classmethod
    def now(cls, zone=None):
        return super().now(zone) + datetime.timedelta(days=1)
for module in (verbs, session):
    module.datetime = Ahead
cli.main()
"""
    command = [sys.executable, "-c", ahead, "jobs"]
    where: dict[str, Any] = {"cwd": stage.folder, "env": stage.environment, "check": True, "capture_output": True, "text": True}
    assert "chief 0 says hello" in subprocess.run([*command, "logs", "done", "--since", "2h"], **where).stdout
    assert " h " not in subprocess.run([*command, "list"], **where).stdout


def test_waiting_for_a_failure(stage: Stage) -> None:
    stage.behave(steps=600, fail="worker 1", seconds=0.5)
    told = succeed(stage, "train", "--config", "job.yaml", "--run", "fails", "--detach")
    waited = stage.run("jobs", "wait", told["job"], "--format", "json")
    assert waited.returncode == 1
    assert json.loads(waited.stdout)["state"] == "FAILED"
    assert "last lines of worker-1:" in waited.stderr
    assert waited.stderr.count("ValueError: the boxes have no corners") == 1


def test_deleting(stage: Stage) -> None:
    stage.behave(steps=1)
    short = succeed(stage, "train", "--config", "job.yaml", "--run", "short")
    stage.behave(steps=3000)
    long = succeed(stage, "train", "--config", "job.yaml", "--run", "long", "--detach")
    message = failure(stage, "jobs", "delete", short["job"], "long")
    assert re.search(rf"job {long['job']} is (QUEUED|PENDING|RUNNING): only jobs that have ended can be deleted", message)
    assert f"odcloud jobs cancel {long['job']}" in message
    listed = {job["job"] for job in succeed(stage, "jobs", "list")}
    assert {long["job"], short["job"]} <= listed  # all or none
    stage.run("jobs", "cancel", "long", check=True)
    assert [one["job"] for one in succeed(stage, "jobs", "delete", short["job"], "long")] == [short["job"], long["job"]]
    assert not {long["job"], short["job"]} & {job["job"] for job in succeed(stage, "jobs", "list")}
    assert "no job" in failure(stage, "jobs", "delete", short["job"])
    # What the run left stays.
    assert (stage.folder / f".odcloud/buckets/{BUCKET}/train/short/ckpt-1.index").exists()


def test_pages(stage: Stage, done: dict[str, Any]) -> None:
    link = stage.run("open", "--print", "done", check=True).stdout.strip()
    assert link.startswith(f"http://127.0.0.1:{stage.port}/")
    with requests.Session() as browser:
        assert browser.get(link, timeout=60).ok
        page = browser.get(f"http://127.0.0.1:{stage.port}/ui/jobs/{done['job']}", timeout=60)
        assert page.ok and "done" in page.text
    assert "no job has" in failure(stage, "open", "none")

    training = {"region": "us-central1", "packageUris": [f"gs://{BUCKET}/none-1.tar.gz"], "pythonModule": "a.b"}
    jobs = f"http://127.0.0.1:{stage.port}/v1/projects/odcloud-local/jobs"
    token = {"Authorization": f"Bearer {stage.environment['GOOGLE_OAUTH_ACCESS_TOKEN']}"}
    assert requests.post(jobs, json={"jobId": "Old_job", "trainingInput": training}, headers=token, timeout=60).ok
    with requests.Session() as browser:
        assert browser.get(stage.run("open", "--print", "Old_job", check=True).stdout.strip(), timeout=60).ok
        page = browser.get(f"http://127.0.0.1:{stage.port}/ui/jobs/Old_job", timeout=60)
        assert page.ok and "ML Engine in us-central1" in page.text
    message = stage.run("open", "--print", "Old_job", CLOUDSDK_API_ENDPOINT_OVERRIDES_ML="").stderr
    assert "no job has" in message and "ended training on 2025-01-31" in message and "Traceback" not in message

    printed = stage.run("open", "--print", CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM="", check=True).stdout
    assert printed == "https://console.cloud.google.com/vertex-ai/training/custom-jobs?project=odcloud-local\n"


@pytest.mark.slow
def test_tensorboard_shows_events_as_they_come(stage: Stage, tmp_path: Path) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    folder = stage.folder / f".odcloud/buckets/{BUCKET}/train/drawn"
    writer = EventFileWriter(str(folder))

    def log(step: int) -> None:
        writer.add_event(Event(step=step, wall_time=step, summary=Summary(value=[Summary.Value(tag="loss", simple_value=1.0)])))
        writer.flush()

    log(1)
    port = free_port()
    with stage.start("tensorboard", "--run", "drawn", "--port", str(port), XDG_CACHE_HOME=str(tmp_path)) as board:
        try:
            assert _points(port, 1)
            log(2)
            assert _points(port, 2)
        finally:
            board.send_signal(signal.SIGINT)
            writer.close()
        assert board.wait(120) == 0
    assert "there is no run undrawn" in failure(stage, "tensorboard", "--run", "undrawn")
    with pytest.raises(urllib.error.URLError):
        _get(port, "/data/environment")
    assert sorted(path.name for path in tmp_path.rglob("*tfevents*")) == sorted(path.name for path in folder.iterdir())


def _points(port: int, count: int) -> bool:
    """Whether TensorBoard comes to show so many points, before a generous deadline."""
    for _ in range(240):
        try:
            if len(_get(port, "/data/plugin/scalars/scalars?run=train&tag=loss")) == count:
                return True
        except (urllib.error.URLError, ConnectionError):
            pass
        time.sleep(0.5)
    return False


def _get(port: int, path: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
        return json.load(answer)


def states(findings: list[dict[str, Any]]) -> dict[str, str]:
    return {one["check"]: one["state"] for one in findings}


def test_a_doctor_without_much_to_go_on(stage: Stage) -> None:
    """The stage's account and data do not exist, and its configuration is no pipeline configuration."""
    stage.import_stack("poor", {**stage.outputs, "service_account": "none@odcloud-local.iam.gserviceaccount.com"})
    try:
        done = stage.run("doctor", "--config", "job.yaml", "--format", "json")
        text = stage.run("doctor", "--config", "job.yaml")
    finally:
        stage.pulumi("stack", "select", "stage")
    assert done.returncode == 1 and done.stderr == ""
    findings = json.loads(done.stdout)
    assert {**states(findings), "images": "skipped"} == {
        "stack": "ok",
        "credentials": "ok",
        "project": "ok",
        "billing": "ok",
        "APIs": "error",
        "permissions": "ok",
        "trainer's account": "error",
        "quotas": "skipped",
        "accelerators": "ok",
        "bucket": "ok",
        "trainer writes": "error",
        "packages": "ok",
        "images": "skipped",
        "data": "error",
        "memory": "skipped",
        "disk": "ok",
        "checkpoint": "skipped",
    }
    told = {one["check"]: one for one in findings}
    assert told["APIs"]["fix"].startswith("gcloud services enable aiplatform.googleapis.com")
    assert "gs://stage/config/pipeline.config" in told["data"]["text"]
    assert all(one["fix"] for one in findings if one["state"] == "error")
    assert text.returncode == 1
    assert "ERROR    trainer's account" in text.stdout and "mend it: pulumi refresh && pulumi up" in text.stdout


def test_a_doctor_of_a_whole_stack(stage: Stage, tmp_path: Path) -> None:
    """What a stack makes is made here by hand; then nothing is wrong, until something is."""
    session = stage.session()
    google = session.google
    name, account = "sound", "sound-trainer@odcloud-local.iam.gserviceaccount.com"
    stage.import_stack(
        name,
        {
            **stage.outputs,
            "service_account": account,
            "package_uris": ["gs://sound/p.tar.gz"],
            "pipeline_config_path": "gs://sound/pipeline.config",
            "bucket": name,
            "train_dir": "gs://sound/train",
        },
    )
    try:
        google.call("storage.buckets.insert", project="odcloud-local", body={"name": name, "location": "US-CENTRAL1"})
        google.call(
            "iam.projects.serviceAccounts.create",
            name="projects/odcloud-local",
            body={"accountId": "sound-trainer", "serviceAccount": {"displayName": name}},
        )
        google.call(
            "storage.buckets.setIamPolicy",
            bucket=name,
            body={"bindings": [{"role": "roles/storage.objectUser", "members": [f"serviceAccount:{account}"]}]},
        )
        apis = ["aiplatform.googleapis.com", "logging.googleapis.com", "storage.googleapis.com"]
        google.call("serviceusage.services.batchEnable", parent="projects/odcloud-local", body={"serviceIds": apis})
        folder = stage.folder / f".odcloud/buckets/{name}"
        (folder / "p.tar.gz").write_bytes(b"package")
        example = Path(__file__).parents[2] / "examples/digits/pipeline.config"
        config = example.read_text().replace("PATH_TO_BE_CONFIGURED", "gs://sound/data")
        (folder / "pipeline.config").write_text(config)
        options = ["--train-images", "6", "--test-images", "4", "--shards", "2"]
        stage.run("data", "digits", str(folder / "data"), *options, check=True)

        command = ("doctor", "--config", "job.yaml", "--stack", name)
        findings = succeed(stage, *command)
        # Google's image cannot be seen from here; from some day on it is known to be old.
        unknown = {"quotas": "skipped", "images": states(findings)["images"]}
        assert unknown["images"] in ("skipped", "warning")
        assert states(findings) == {one["check"]: unknown.get(one["check"], "ok") for one in findings}
        told = {one["check"]: one["text"] for one in findings}
        assert "train: 2 files" in told["data"] and "10 classes" in told["data"]
        assert "n1-standard-4 has 15 GiB" in told["memory"]
        assert states(succeed(stage, "doctor", "--stack", name))["disk"] == "skipped"

        def wrong() -> dict[str, str]:
            done = stage.run(*command, "--format", "json")
            assert done.returncode == 1, done.stdout
            return {one["check"]: one["text"] for one in json.loads(done.stdout) if one["state"] == "error"}

        (folder / "pipeline.config").write_text(config.replace("num_classes: 10", "num_classes: 9"))
        assert "label_map.pbtxt has 10 classes, the configuration's num_classes is 9" in wrong()["data"]
        (folder / "pipeline.config").write_text(config.replace("num_steps", "num_step"))
        assert "gs://sound/pipeline.config" in wrong()["data"] and "did you mean num_steps?" in wrong()["data"]
        (folder / "pipeline.config").write_text(config)
        shard = folder / "data/train-00001-of-00002.tfrecord"
        content = shard.read_bytes()
        shard.unlink()
        (folder / "p.tar.gz").unlink()
        assert wrong() == {
            "packages": "gs://sound/p.tar.gz does not exist",
            "data": "data/train-00001-of-00002: shard is missing (1 of 2 are there)",
        }
        shard.write_bytes(content[:-3])
        (folder / "data/train-00000-of-00002.tfrecord").write_bytes(content * 3)
        assert "gs://sound/data/train-00001-of-00002.tfrecord" in wrong()["data"]
    finally:
        stage.pulumi("stack", "select", "stage")


def test_a_doctor_where_nobody_answers(stage: Stage, tmp_path: Path) -> None:
    nowhere = {name: "http://127.0.0.1:9/" for name in stage.environment if name.startswith("CLOUDSDK_API_ENDPOINT_OVERRIDES_")}
    done = stage.run("doctor", "--format", "json", **nowhere)
    assert done.returncode == 1
    findings = json.loads(done.stdout)
    assert {name: state for name, state in states(findings).items() if state != "skipped"} == {
        "stack": "ok",
        "credentials": "error",
    }
    assert "cannot reach http://127.0.0.1:9" in findings[1]["text"]
    done = stage.run("doctor", "--format", "json", GOOGLE_OAUTH_ACCESS_TOKEN="wrong")
    assert done.returncode == 1 and states(json.loads(done.stdout))["credentials"] == "error"
    assert 'eval "$(odcloud local env)"' in done.stdout.replace("\\", "")
    done = stage.run("doctor", "--format", "json", "--stack", "nowhere")
    assert done.returncode == 1 and [one["check"] for one in json.loads(done.stdout)] == ["stack"]


def test_resubmitting(stage: Stage, done: dict[str, Any]) -> None:
    bucket = stage.folder / f".odcloud/buckets/{BUCKET}"
    first = json.loads((bucket / "runs/done/train-1.json").read_text())
    stage.behave(steps=2)  # as it was when that run was launched, to the byte
    dry = stage.run("resubmit", "done", "--run", "again", "--dry-run", check=True)
    body = json.loads(dry.stdout)
    assert body["displayName"] == body["labels"]["odcloud-run"] == "again"
    assert "odcloud-launch" not in body["labels"]
    spec = json.dumps(first["request"]["jobSpec"])
    assert body["jobSpec"] == json.loads(spec.replace("gs://stage/train/done", "gs://stage/train/again"))
    assert set(first["inputs"]) == {"gs://stage/config/pipeline.config", "gs://stage/packages/0/tiny-0.1.0.tar.gz"}

    told = succeed(stage, "resubmit", "done")
    assert told["run"] != "done" and told["state"] == "SUCCEEDED"
    assert (bucket / f"train/{told['run']}/ckpt-2.index").exists()
    again = json.loads((bucket / f"runs/{told['run']}/train-1.json").read_text())
    assert again["inputs"] == first["inputs"]
    # In the same folder: the run goes on, as a job of its own.
    same = succeed(stage, "resubmit", "done", "--run", "done")
    assert same["run"] == "done" and same["job"] != done["job"]

    assert "no record of a training" in failure(stage, "resubmit", "none")
    stage.behave(steps=3)
    assert "gs://stage/config/pipeline.config has changed since run done" in failure(stage, "resubmit", "done")
    (bucket / "config/pipeline.config").unlink()
    assert "gs://stage/config/pipeline.config, which run done was launched with, is gone" in failure(stage, "resubmit", "done")
    stage.behave(steps=1)
    (bucket / "runs/odd").mkdir()
    (bucket / "runs/odd/train-1.json").write_text("[]")
    assert "runs/odd/train-1.json is not a record of a launch" in failure(stage, "resubmit", "odd")

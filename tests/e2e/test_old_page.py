"""The old page's two commands, as they stand there, on a local cloud: no stack, no Pulumi project, the user's own packages."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import old_page
import pytest
from launcher_stage import Stage

BUCKET = "old-shell"


class Shell:
    """A shell in the research folder, with what `odcloud local env` gives and the page's own variables."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        self.stage = stage
        self.folder = old_page.research(folder)
        self.buckets = stage.folder / ".odcloud" / "buckets"
        self.environment = {
            **stage.environment,
            "TRAIN_DIR": f"{BUCKET}/train",
            "EVAL_DIR": f"{BUCKET}/eval",
            "PIPELINE_CONFIG_PATH": f"{BUCKET}/pipeline.config",
            "PATH_TO_LOCAL_YAML_FILE": "cloud.yaml",
        }

    def run(self, text: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.folder,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=500,
        )

    def succeed(self, text: str, **environment: str) -> subprocess.CompletedProcess[str]:
        done = self.run(text, **environment)
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        return done

    def package(self, name: str, program: str) -> None:
        """A package with a module `run`, in a folder that has no setup.py."""
        folder = self.folder / "apart" / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("")
        (folder / "run.py").write_text(program)

    def uploads(self) -> dict[str, int]:
        """The packages in the bucket and when each was written."""
        return {path.name: path.stat().st_mtime_ns for path in (self.buckets / BUCKET / "packages").glob("*/*")}


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    stage = Stage(tmp_path_factory.mktemp("stage"))
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in stage.environment.items():
                patch.setenv(name, value)
            google = stage.session().google
            google.call("storage.buckets.insert", project="odcloud-local", body={"name": BUCKET})
            google.upload(BUCKET, "pipeline.config", b"model { ssd }", "text/plain", if_generation=0)
        yield Shell(stage, tmp_path_factory.mktemp("research"))
    finally:
        stage.close()


def answer(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in done.stdout.splitlines())  # type: ignore[misc]


def state(shell: Shell, name: str) -> Any:
    return json.loads(shell.succeed(f"odcloud ml-engine jobs describe {name} --format json").stdout)["state"]


@pytest.mark.slow
def test_both_commands_as_they_stand(shell: Shell) -> None:
    """Packaging, training with 1 master, 9 workers and 3 parameter servers, evaluation."""
    shell.succeed(old_page.block("setup.py sdist"))
    submitted = shell.succeed(old_page.command("object_detection.train"))
    training = answer(submitted)["jobId"]
    assert training.startswith("object_detection_1")
    assert "standard_gpu was one NVIDIA K80, which Google has withdrawn" in submitted.stderr
    assert f"odcloud ml-engine jobs stream-logs {training}" in submitted.stderr
    streamed = shell.succeed(f"odcloud ml-engine jobs stream-logs {training}")
    assert streamed.stdout.count("pipeline says model { ssd }") == 13
    assert "\tchief   \tstep 1: saved a checkpoint" in streamed.stdout
    described = json.loads(shell.succeed(f"odcloud ai-platform jobs describe {training} --format json").stdout)
    assert described["state"] == "SUCCEEDED"
    names = [replica["name"] for replica in described["replicas"]]
    assert names == ["chief", *(f"worker-{n}" for n in range(9)), *(f"ps-{n}" for n in range(3))]
    assert (shell.buckets / BUCKET / "train" / "model.ckpt-1.index").exists()
    before = shell.uploads()
    assert set(before) == {"object_detection-0.1.tar.gz", "slim-0.1.tar.gz"}

    evaluation = answer(shell.succeed(old_page.command("object_detection.eval")))["jobId"]
    assert evaluation.startswith("object_detection_eval_1")
    assert "evaluated model.ckpt-1" in shell.succeed(f"odcloud ml-engine jobs stream-logs {evaluation}").stdout
    assert (shell.buckets / BUCKET / "eval" / "events.out.tfevents.1.host").exists()
    assert shell.uploads() == before  # nothing is uploaded twice

    listed = shell.succeed("odcloud ml-engine jobs list").stdout.split()
    assert listed.index(evaluation) < listed.index(training)


def test_a_name_is_used_once(shell: Shell) -> None:
    shell.package("wait", "import time\nprint('waiting', flush=True)\ntime.sleep(600)\n")
    submit = (
        f"odcloud ml-engine jobs submit training Once_{os.getpid()} --package-path apart/wait --module-name wait.run "
        f"--staging-bucket gs://{BUCKET} --scale-tier basic --region us-central1"
    )
    name = f"Once_{os.getpid()}"
    two = shell.succeed(f"{submit} & first=$!; {submit} & wait $!; wait $first")  # at the same time
    assert two.stdout.count(f"jobId: {name}") == 2
    assert two.stderr.count("submitted successfully") == two.stderr.count("is under way already") == 1
    again = shell.succeed(submit)
    assert "is under way already" in again.stderr
    assert shell.uploads().keys() >= {"wait-0.0.0.tar.gz"}
    other = shell.run(f"{submit} -- --steps=1")
    assert other.returncode == 2
    assert f"odcloud: error: job {name} exists already" in other.stderr and "409" in other.stderr

    shell.succeed(f"odcloud ml-engine jobs cancel {name}")
    deadline = time.monotonic() + 180
    while state(shell, name) != "CANCELLED":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    ended = shell.run(submit)
    assert ended.returncode == 2 and "CANCELLED" in ended.stderr
    listed = json.loads(shell.succeed("odcloud ml-engine jobs list --format json").stdout)
    assert [job["jobId"] for job in listed].count(name) == 1
    # A package is built elsewhere: nothing is left beside its sources.
    assert sorted(path.name for path in (shell.folder / "apart" / "wait").iterdir()) == ["__init__.py", "run.py"]


def test_a_program_that_fails_ends_the_stream_with_1(shell: Shell) -> None:
    shell.package("broken", "raise ValueError('the boxes have no corners')\n")
    done = shell.run(
        f"odcloud ai-platform jobs submit training broken_{os.getpid()} --package-path apart/broken --module-name broken.run "
        f"--staging-bucket {BUCKET} --region us-central1 --stream-logs"
    )
    assert done.returncode == 1
    assert "ValueError: the boxes have no corners" in done.stdout
    assert "FAILED" in done.stderr
    name, format_ = f"broken_{os.getpid()}", "--format='value(jobId,state,labels.odcloud-kind,nothing)'"
    assert shell.succeed(f"odcloud ml-engine jobs describe {name} {format_}").stdout == f"{name}\tFAILED\tjob\t\n"
    assert f"{name}\tFAILED" in shell.succeed(f"odcloud ml-engine jobs list {format_}").stdout
    assert shell.succeed(f"odcloud ml-engine jobs stream-logs {name} --polling-interval 5 || true").stdout == done.stdout


def test_a_job_of_the_old_service_itself_is_shown(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `gcloud ai-platform jobs submit training` makes on a local cloud is shown by `odcloud jobs show`, with no stack."""
    shell.package("cornerless", "raise ValueError('the boxes have no corners')\n")
    request = shell.succeed(
        "odcloud ml-engine jobs submit training uploads --package-path apart/cornerless --module-name cornerless.run "
        f"--staging-bucket {BUCKET} --region us-central1 --format=json"
    )
    assert json.loads(request.stdout)["jobId"] == "uploads"
    (package,) = (shell.buckets / BUCKET / "packages").glob("*/cornerless-0.0.0.tar.gz")
    uri = f"gs://{BUCKET}/{package.relative_to(shell.buckets / BUCKET)}"
    training = {"packageUris": [uri], "pythonModule": "cornerless.run", "region": "us-central1"}
    for variable, value in shell.stage.environment.items():
        monkeypatch.setenv(variable, value)
    shell.stage.session().google.call(
        "ml.projects.jobs.create", parent="projects/odcloud-local", body={"jobId": "by_gcloud", "trainingInput": training}
    )
    deadline = time.monotonic() + 180
    while (shown := json.loads(shell.succeed("odcloud jobs show by_gcloud --format json").stdout))["state"] != "FAILED":
        assert time.monotonic() < deadline, shown
        time.sleep(0.2)
    assert "the boxes have no corners" in shown["error"]["message"]
    text = shell.succeed("odcloud jobs show by_gcloud").stdout
    assert "by_gcloud" in text and "FAILED" in text
    for verb in ("logs", "wait", "cancel"):
        refused = shell.run(f"odcloud jobs {verb} by_gcloud")
        assert refused.returncode == 2 and "gcloud ai-platform jobs stream-logs by_gcloud" in refused.stderr
    absent = shell.run("odcloud jobs show by_nobody")
    assert absent.returncode == 2 and "no job has the number, run id or name 'by_nobody'" in absent.stderr


def test_a_package_that_is_not_there(shell: Shell) -> None:
    done = shell.run(
        f"odcloud ml-engine jobs submit training no_package --packages gs://{BUCKET}/p.tar.gz --module-name p.run "
        "--region us-central1"
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(
        f"odcloud: error: the package gs://{BUCKET}/p.tar.gz does not exist; upload it"
    )
    assert "no_package" not in shell.succeed("odcloud ml-engine jobs list").stdout


def test_a_bucket_that_is_not_there(shell: Shell) -> None:
    done = shell.run(
        "odcloud ml-engine jobs submit training no_bucket --packages gs://old-shell/p.tar.gz --module-name p.run "
        "--job-dir gs://no-such-bucket/x --region us-central1"
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("odcloud: error: the bucket gs://no-such-bucket does not exist; make it")


def test_dry_runs_send_and_upload_nothing(shell: Shell) -> None:
    before = shell.uploads()
    nobody = "http://127.0.0.1:9/"
    (shell.folder / "tiny-0.1.tar.gz").write_bytes(b"no package, but never opened")
    done = shell.succeed(
        "odcloud ml-engine jobs submit training dry --packages tiny-0.1.tar.gz --module-name tiny.run --dry-run "
        f"--job-dir gs://{BUCKET}/dry --region us-central1",
        CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM=nobody,
        CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE=nobody,
    )
    (uri,) = json.loads(done.stdout)["jobSpec"]["workerPoolSpecs"][0]["pythonPackageSpec"]["packageUris"]
    assert uri.startswith(f"gs://{BUCKET}/packages/") and uri.endswith("/tiny-0.1.tar.gz")
    assert done.stderr == ""
    assert shell.uploads() == before

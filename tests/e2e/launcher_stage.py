"""A stage to launch on: a local cloud of its own, a stack with outputs in a real Pulumi backend, and a tiny program to run.

The program does what a trainer does as far as the launcher can see it (progress lines, a checkpoint, exit codes), in seconds.
Its pipeline configuration is JSON that tells it how to behave: {"steps": 3, "seconds": 0.2, "fail": "worker 0", …}.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from free_port import free_port
from packed import sdist

from infra.outputs import StackOutputs
from launcher.google.api import Google
from launcher.stack.session import Session

BUCKET = "stage"
BIN = Path(sys.executable).parent
PROGRAM = """
import argparse, json, os, pathlib, sys, time

parser = argparse.ArgumentParser()
for name in ("train_dir", "pipeline_config_path", "checkpoint_dir", "eval_dir"):
    parser.add_argument("--" + name)
options = parser.parse_args()


def path(uri):
    return pathlib.Path(os.environ["GCS_ROOT"]) / uri[len("gs://"):]


def say(**fields):
    print(json.dumps(fields), flush=True)


behaviour = json.loads(path(options.pipeline_config_path).read_text())
task = json.loads(os.environ["TF_CONFIG"])["task"]
me = "{type} {index}".format(**task)
print(me, "says hello", flush=True)
print("chatter on stderr", file=sys.stderr, flush=True)
if options.eval_dir:
    folder = path(options.eval_dir)
    folder.mkdir(parents=True, exist_ok=True)
    metrics = {"AP": 0.71, "AP50": 0.83}
    (folder / "metrics.json").write_text(json.dumps({"step": 3, "metrics": metrics}))
    say(severity="INFO", message="AP 0.710", step=3, metrics=metrics)
    sys.exit(0)
if behaviour.get("fail") == me:
    time.sleep(behaviour.get("seconds", 0.1))
    raise ValueError("the boxes have no corners")
folder = path(options.train_dir)
done = folder / ("done-" + os.environ["CLOUD_ML_JOB_ID"])
if task["type"] != "chief":
    while not done.exists():
        time.sleep(0.1)
    sys.exit(0)
folder.mkdir(parents=True, exist_ok=True)
steps = behaviour.get("steps", 3)
for step in range(1, steps + 1):
    time.sleep(behaviour.get("seconds", 0.1))
    left = 0.1 * (steps - step)
    say(message=f"step {step}", step=step, steps=steps, loss=1 / step, steps_per_second=10.0, seconds_left=left)
say(severity="WARNING", message="the learning rate is high")
(folder / f"ckpt-{steps}.index").write_text("x")
done.touch()
(folder / "events.out.tfevents.1.host").write_bytes(b"events")
"""


class Stage:
    """Everything that the tests of one module share. `environment` is what `odcloud local env` gives, and PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("CLOUDSDK_", "GOOGLE_", "PULUMI_"))},
            "ODCLOUD_HOME": str(folder / ".odcloud"),
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "NO_COLOR": "1",
        }
        (folder / "Pulumi.yaml").write_text("name: stage\nruntime: python\n")
        (folder / "job.yaml").write_text(
            "trainingInput: {masterType: standard, workerType: standard, workerCount: 2,"
            " parameterServerType: standard, parameterServerCount: 1}\n"
        )
        self.port = free_port()
        self.run("local", "start", "--port", str(self.port), check=True)
        told = json.loads(self.run("local", "env", "--format", "json", check=True).stdout)
        self.environment.update(told)
        self.outputs = outputs()
        self.import_stack("stage", self.outputs)

    def run(self, *arguments: str, check: bool = False, **environment: str) -> subprocess.CompletedProcess[str]:
        """`odcloud …`, to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "launcher.cli", *arguments],
            cwd=self.folder,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        if check and done.returncode:
            raise AssertionError(f"odcloud {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """`odcloud …`, left running."""
        return subprocess.Popen(
            [sys.executable, "-m", "launcher.cli", *arguments],
            cwd=self.folder,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def pulumi(self, *arguments: str) -> str:
        done = subprocess.run(
            ["pulumi", *arguments, "--non-interactive"], cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        assert not done.returncode, done.stderr
        return done.stdout

    def import_stack(self, name: str, values: dict[str, Any]) -> None:
        """Makes and selects a stack that has these outputs."""
        self.pulumi("stack", "select", "--create", name)
        state = json.loads(self.pulumi("stack", "export"))
        urn = f"urn:pulumi:{name}::stage::pulumi:pulumi:Stack::stage-{name}"
        state["deployment"]["resources"] = [{"urn": urn, "custom": False, "type": "pulumi:pulumi:Stack", "outputs": values}]
        path = self.folder / "state.json"
        path.write_text(json.dumps(state))
        self.pulumi("stack", "import", "--file", str(path))

    def session(self) -> Session:
        """The launcher's own session, for this process; its address and token must be in os.environ (see `enter`)."""
        return Session(StackOutputs.model_validate(self.outputs), Google("us-central1"))

    def fill_bucket(self) -> None:
        """The bucket with the program's package and its configuration."""
        google = self.session().google
        google.call("storage.buckets.insert", project="odcloud-local", body={"name": BUCKET})
        self.give_account()
        google.upload(BUCKET, "packages/0/tiny-0.1.0.tar.gz", _package(), "application/gzip", if_generation=0)
        self.behave()

    def give_account(self) -> None:
        """The account that the stack's jobs run as, with what it needs."""
        google = self.session().google
        google.call("iam.projects.serviceAccounts.create", name="projects/odcloud-local", body={"accountId": "trainer"})
        members = [f"serviceAccount:{self.outputs['service_account']}"]
        bucket = {"bindings": [{"role": "roles/storage.objectUser", "members": members}]}
        google.call("storage.buckets.setIamPolicy", bucket=BUCKET, body=bucket)
        project = {"policy": {"bindings": [{"role": "roles/logging.logWriter", "members": members}]}}
        google.call("cloudresourcemanager.projects.setIamPolicy", resource="odcloud-local", body=project)

    def behave(self, **behaviour: Any) -> None:
        """How the program is to behave from now on."""
        path = self.folder / ".odcloud" / "buckets" / BUCKET / "config" / "pipeline.config"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(behaviour))

    def close(self) -> None:
        self.run("local", "stop")
        server = self.folder / ".odcloud" / "server.json"
        if server.exists():  # stop failed: leave nothing behind all the same
            os.kill(json.loads(server.read_text())["pid"], signal.SIGKILL)
        shutil.rmtree(self.folder / ".odcloud", ignore_errors=True)


def outputs() -> dict[str, Any]:
    return {
        "project": "odcloud-local",
        "region": "us-central1",
        "bucket": BUCKET,
        "train_dir": f"gs://{BUCKET}/train",
        "eval_dir": f"gs://{BUCKET}/eval",
        "data_dir": f"gs://{BUCKET}/data",
        "staging_dir": f"gs://{BUCKET}/staging",
        "pipeline_config_path": f"gs://{BUCKET}/config/pipeline.config",
        "label_map_path": f"gs://{BUCKET}/data/label_map.pbtxt",
        "package_uris": [f"gs://{BUCKET}/packages/0/tiny-0.1.0.tar.gz"],
        "python_modules": {"train": "tiny.program", "eval": "tiny.program"},
        "executor_image_uri": "us-docker.pkg.dev/vertex-ai/training/tf-cpu.2-17.py310:latest",
        "image_repository": "us-central1-docker.pkg.dev/odcloud-local/odcloud",
        "service_account": "trainer@odcloud-local.iam.gserviceaccount.com",
        "labels": {"app": "odcloud"},
        "endpoints": {},
    }


def _package() -> bytes:
    """An sdist of the program."""
    files = {
        "pyproject.toml": '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "tiny"\nversion = "0.1.0"\n',
        "PKG-INFO": "Metadata-Version: 2.1\nName: tiny\nVersion: 0.1.0\n",
        "tiny/__init__.py": "",
        "tiny/program.py": PROGRAM,
    }
    return sdist("tiny", "0.1.0", files)


@contextmanager
def enter(folder: Path) -> Iterator[Stage]:
    """A stage with its bucket filled; until it is closed, its address and token are in os.environ."""
    made = Stage(folder)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in made.environment.items():
            patch.setenv(name, value)
        try:
            made.fill_bucket()
            yield made
        finally:
            made.close()

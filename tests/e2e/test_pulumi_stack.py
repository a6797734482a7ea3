"""The stack's whole life with the real Pulumi on a real local cloud, in a project folder and a state folder of its own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from infra.outputs import StackOutputs
from localcloud.pulumi_provider.install import install

ROOT = Path(__file__).parents[2]
PARENT = "projects/odcloud-local/locations/us-central1"
SHARDS = ("train-00000-of-00002.tfrecord", "train-00001-of-00002.tfrecord", "test-00000-of-00001.tfrecord")
CONFIG = "".join(
    f"{split}_input_reader {{\n"
    '  label_map_path: "PATH_TO_BE_CONFIGURED/label_map.pbtxt"\n'
    f'  tf_record_input_reader {{ input_path: "PATH_TO_BE_CONFIGURED/{name}-*" }}\n}}\n'
    for split, name in (("train", "train"), ("eval", "test"))
)
PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "odcloud-trainer"
version = "0.1.0"

[tool.hatch.build.targets.wheel]
packages = ["waiter"]
"""

pytestmark = pytest.mark.slow


class Project:
    """A copy of the stack's project with a tiny package and dataset, on a local cloud of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / ".odcloud"
        for name in ("Pulumi.yaml", "Pulumi.local.yaml"):
            shutil.copy(ROOT / name, root)
        shutil.copytree(ROOT / "infra", root / "infra", ignore=shutil.ignore_patterns("__pycache__"))
        files = {
            "trainer/pyproject.toml": PYPROJECT,
            "trainer/waiter/__init__.py": "",
            "trainer/waiter/wait.py": "import time\ntime.sleep(600)\n",
            "examples/digits/pipeline.config": CONFIG,
            "digits/label_map.pbtxt": "item { id: 1 name: 'zero' }\n",
            **{f"digits/{shard}": f"records of {shard}" for shard in SHARDS},
        }
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        self.committed = {path: path.read_bytes() for path in root.glob("Pulumi*.yaml")}
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(("PULUMI_", "GOOGLE_"))}
        self.environment |= {"ODCLOUD_HOME": str(self.home), "PYTHONPATH": str(root)}

    def localcloud(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "localcloud", *arguments]
        done = subprocess.run(command, cwd=self.root, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.localcloud("start", "--port", str(port))
        self.environment |= json.loads(self.localcloud("env", "--format", "json"))

    def pulumi(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Plain Pulumi: no stack is named."""
        command = ["pulumi", *arguments, "--non-interactive", "--color=never"]
        return subprocess.run(
            command,
            cwd=self.root,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def succeed(self, *arguments: str) -> str:
        done = self.pulumi(*arguments)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def fail(self, *arguments: str, **environment: str) -> str:
        done = self.pulumi(*arguments, **environment)
        assert done.returncode != 0, done.stdout
        return done.stdout

    def outputs(self) -> StackOutputs:
        return StackOutputs.model_validate_json(self.succeed("stack", "output", "--json"))

    def call(self, verb: str, path: str, body: Any = None) -> dict[str, Any]:
        url = self.environment["CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE"] + path
        headers = {
            "Authorization": f"Bearer {self.environment['GOOGLE_OAUTH_ACCESS_TOKEN']}",
            "Content-Type": "application/json",
        }
        request = urllib.request.Request(url, None if body is None else json.dumps(body).encode(), headers, method=verb)
        with urllib.request.urlopen(request) as answer:
            found: dict[str, Any] = json.loads(answer.read() or b"{}")
        return found

    def put(self, bucket: str, name: str) -> None:
        self.call("POST", f"upload/storage/v1/b/{bucket}/o?uploadType=media&name={name}", {"made": "by training"})

    def objects(self, bucket: str) -> set[str]:
        return {item["name"] for item in self.call("GET", f"storage/v1/b/{bucket}/o").get("items", [])}

    def leftovers(self) -> list[Any]:
        """What a destroyed stack must not leave: buckets, accounts, repositories, bindings."""
        project = "v1/projects/odcloud-local"
        return [
            *self.call("GET", "storage/v1/b?project=odcloud-local").get("items", []),
            *self.call("GET", f"{project}/serviceAccounts").get("accounts", []),
            *self.call("GET", f"{project}/locations/us-central1/repositories").get("repositories", []),
            *self.call("POST", f"{project}:getIamPolicy", {}).get("bindings", []),
        ]

    def provider_processes(self) -> list[int]:
        mine = str(self.home)
        found = []
        for process in psutil.process_iter():
            try:
                if "localcloud.pulumi_provider" in process.cmdline() and process.environ().get("ODCLOUD_HOME") == mine:
                    found.append(process.pid)
            except psutil.Error:
                continue
        return found


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    made = Project(tmp_path)
    made.start()
    try:
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path)
            install(made.home / "pulumi-home")
        yield made
    finally:
        made.localcloud("stop")


def test_up_again_refresh_change_destroy(project: Project) -> None:
    project.succeed("up", "--yes", "--skip-preview")
    outputs = project.outputs()
    assert outputs.bucket == "odcloud-local-odcloud-local"
    assert outputs.service_account == "odcloud-local@odcloud-local.iam.gserviceaccount.com"
    assert outputs.labels == {"odcloud-stack": "local"}
    assert outputs.endpoints["aiplatform"] == project.environment["CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM"]
    uris = [outputs.pipeline_config_path, outputs.label_map_path, *outputs.package_uris]
    uris += [f"{outputs.data_dir}/{shard}" for shard in SHARDS]
    assert project.objects(outputs.bucket) == {uri.removeprefix(f"gs://{outputs.bucket}/") for uri in uris}
    assert re.fullmatch(r"gs://[^/]+/packages/[0-9a-f]{12}/odcloud_trainer-0\.1\.0\.tar\.gz", outputs.package_uris[0])

    kinds = {
        str(left.get("kind") or left.get("role") or left.get("email") or left.get("format")) for left in project.leftovers()
    }
    assert kinds == {"storage#bucket", outputs.service_account, "DOCKER", "roles/logging.logWriter"}

    # Nothing changes by itself, neither here nor there.
    project.succeed("up", "--yes", "--skip-preview", "--expect-no-changes")
    project.succeed("refresh", "--yes", "--skip-preview", "--expect-no-changes")

    # What others changed is seen by a refresh and put right by the next up.
    bucket = f"storage/v1/b/{outputs.bucket}"
    project.call("PATCH", bucket, {"labels": {"odcloud-stack": "mine", "another": "label"}})
    project.call("DELETE", f"{bucket}/o/data%2Flabel_map.pbtxt")
    project.fail("refresh", "--yes", "--skip-preview", "--expect-no-changes")
    project.succeed("up", "--yes", "--skip-preview")
    assert project.call("GET", bucket)["labels"] == {"odcloud-stack": "local"}
    assert "data/label_map.pbtxt" in project.objects(outputs.bucket)

    # A changed source is a new object beside the old one, which jobs may need; a changed shard is uploaded under its own name.
    (project.root / "examples/digits/pipeline.config").write_text(f"model {{ ssd {{}} }}\n{CONFIG}")
    (project.root / "digits" / SHARDS[0]).write_text("other records")
    preview = project.succeed("preview", "--diff")
    assert "pipeline.config" in preview and SHARDS[0] in preview and SHARDS[1] not in preview
    project.succeed("up", "--yes", "--skip-preview")
    changed = project.outputs().pipeline_config_path
    assert changed != outputs.pipeline_config_path
    for uri in (changed, outputs.pipeline_config_path):
        assert uri.removeprefix(f"gs://{outputs.bucket}/") in project.objects(outputs.bucket)
    assert project.call("GET", f"{bucket}/o/data%2F{SHARDS[0]}")["size"] == str(len("other records"))

    project.succeed("destroy", "--yes", "--skip-preview")
    assert project.leftovers() == []
    assert {path: path.read_bytes() for path in project.root.glob("Pulumi*.yaml")} == project.committed
    assert project.provider_processes() == []


def test_destroy_first_stops_the_stacks_jobs_and_touches_nothing_if_it_cannot(project: Project) -> None:
    project.succeed("up", "--yes", "--skip-preview")
    outputs = project.outputs()
    pool = {
        "machineSpec": {"machineType": "n1-standard-4"},
        "replicaCount": "1",
        "pythonPackageSpec": {
            "executorImageUri": outputs.executor_image_uri,
            "packageUris": outputs.package_uris,
            "pythonModule": "waiter.wait",
        },
    }
    job = {"displayName": "waits", "labels": outputs.labels, "jobSpec": {"workerPoolSpecs": [pool]}}
    name = project.call("POST", f"v1/{PARENT}/customJobs", job)["name"]
    other = project.call("POST", f"v1/{PARENT}/customJobs", {**job, "labels": {"odcloud-stack": "another"}})["name"]
    deadline = time.monotonic() + 120
    while project.call("GET", f"v1/{name}")["state"] != "JOB_STATE_RUNNING":
        assert time.monotonic() < deadline, project.call("GET", f"v1/{name}")
        time.sleep(0.2)

    nowhere = {"CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM": "http://127.0.0.1:9/"}
    said = project.fail("destroy", "--yes", "--skip-preview", **nowhere)
    assert "http://127.0.0.1:9/v1/projects/odcloud-local" in said and "is not reached" in said and "odcloud local start" in said
    assert 'File "' not in said
    assert SHARDS[0] in str(project.objects(outputs.bucket))

    project.succeed("destroy", "--yes", "--skip-preview")
    assert project.call("GET", f"v1/{name}")["state"] == "JOB_STATE_CANCELLED"
    assert project.call("GET", f"v1/{other}")["state"] not in ("JOB_STATE_CANCELLED", "JOB_STATE_CANCELLING")
    assert project.leftovers() == []


def test_results_are_refused_kept_or_deleted(project: Project) -> None:
    config = project.root / "Pulumi.local.yaml"
    config.write_text(config.read_text().replace("  odcloud:onDestroy: delete\n", "  odcloud:bucketLocation: EU\n"))
    said = project.succeed("up", "--yes", "--skip-preview")
    assert "the bucket is in EU, the jobs run in us-central1" in said
    bucket = project.outputs().bucket
    before = project.objects(bucket)
    for name in ("train/r/ckpt-1", "eval/r/metrics.json"):
        project.put(bucket, name)

    said = project.fail("destroy", "--yes", "--skip-preview")
    assert f"2 objects of training and evaluation (46 B) in gs://{bucket} would be lost, so nothing is deleted" in said
    assert 'File "' not in said
    assert project.objects(bucket) > before
    project.succeed("up", "--yes", "--skip-preview", "--expect-no-changes")

    project.succeed("config", "set", "odcloud:onDestroy", "keepCheckpoints")
    project.succeed("up", "--yes", "--skip-preview")
    said = project.succeed("destroy", "--yes", "--skip-preview")
    assert "stay: the bucket is kept" in said
    assert [left["name"] for left in project.leftovers()] == [bucket]
    assert {"train/r/ckpt-1", "eval/r/metrics.json"} <= project.objects(bucket)
    assert not any(name.startswith("data/") for name in project.objects(bucket))


def test_a_stack_with_everything_is_made_kept_and_removed(project: Project) -> None:
    """Launchers, workflows that deploy, old generations, a key: each type that the stack can have, with the policies kept."""
    for key, value in {
        "githubRepository": "vision/pets",
        "versioning": "true",
        "checkpointDays": "90",
        "kmsKey": "projects/odcloud-local/locations/us-central1/keyRings/r/cryptoKeys/k",
    }.items():
        project.succeed("config", "set", f"odcloud:{key}", value)
    project.succeed("config", "set", "--path", "odcloud:launchers[0]", "group:vision@example.com")
    plan = project.root / "plan.json"
    plan.write_text(project.succeed("preview", "--json"))
    checked = subprocess.run([sys.executable, "-m", "infra.policies", str(plan)], capture_output=True, text=True)
    assert (checked.returncode, checked.stdout) == (0, "every resource keeps the rules\n")

    project.succeed("up", "--yes", "--skip-preview")
    outputs = project.outputs()
    assert outputs.delivery["deployer"] == "deploy-local@odcloud-local.iam.gserviceaccount.com"
    provider = project.call("GET", f"v1/{outputs.delivery['workload_identity_provider']}")
    assert "assertion.repository == 'vision/pets'" in provider["attributeCondition"]
    project.succeed("up", "--yes", "--skip-preview", "--expect-no-changes")
    project.succeed("refresh", "--yes", "--skip-preview", "--expect-no-changes")

    # Only what depends on a changed value changes.
    project.succeed("config", "set", "odcloud:githubBranch", "release")
    preview = project.succeed("preview", "--diff")
    assert "refs/heads/release" in preview and "gcp:storage" not in preview
    project.succeed("up", "--yes", "--skip-preview")
    project.put(outputs.bucket, "data/twice")
    project.put(outputs.bucket, "data/twice")
    project.succeed("destroy", "--yes", "--skip-preview")
    assert project.leftovers() == []


def test_mistakes_are_one_clear_message(project: Project) -> None:
    config = project.root / "Pulumi.local.yaml"
    config.write_text(config.read_text().replace("odcloud:onDestroy: delete", "odcloud:onDestroy: perhaps\n  odcloud:typo: 1"))
    said = project.fail("up", "--yes", "--skip-preview")
    assert "odcloud:onDestroy: 'perhaps'" in said and "odcloud:typo: no such setting" in said
    assert "Traceback" not in said

    config.write_bytes(project.committed[config])
    shutil.rmtree(project.root / "digits")
    said = project.fail("up", "--yes", "--skip-preview")
    assert "digits: no such folder. Make the demo's dataset with `odcloud data digits digits`" in said
    assert "Traceback" not in said
    assert project.leftovers() == []

    project.localcloud("stop")
    (project.root / "digits").mkdir()
    for name in (*SHARDS, "label_map.pbtxt"):
        (project.root / "digits" / name).write_text(name)
    said = project.fail("up", "--yes", "--skip-preview")
    assert "the local cloud is not reached" in said and "odcloud local start" in said
    assert "Traceback" not in said
    project.start()


def test_a_killed_up_can_be_run_again(project: Project) -> None:
    """Whatever was made before the kill, noted in the state or not, the next up ends well."""
    for moment in (
        "BucketIAMMember objects creat",
        "Bucket bucket creating",
        "BucketObject data/train-00001-of-00002.tfrecord created",
    ):
        process = subprocess.Popen(
            ["pulumi", "up", "--yes", "--skip-preview", "--non-interactive", "--color=never"],
            cwd=project.root,
            env=project.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        for line in process.stdout:
            if moment in line:
                break
        helpers = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        deadline = time.monotonic() + 10
        while project.provider_processes() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert project.provider_processes() == []
        for helper in helpers:  # Pulumi's own language host notices only after five minutes
            with contextlib.suppress(psutil.NoSuchProcess):
                helper.kill()
        project.succeed("cancel", "--yes")
        project.succeed("up", "--yes", "--skip-preview")
        assert project.outputs()
        project.succeed("destroy", "--yes", "--skip-preview")
        assert project.leftovers() == []


def test_a_wrong_token_is_refused_in_the_services_words(project: Project) -> None:
    said = project.fail("up", "--yes", "--skip-preview", GOOGLE_OAUTH_ACCESS_TOKEN="wrong")
    assert "401" in said and "Traceback" not in said
    with pytest.raises(urllib.error.HTTPError, match="404"):
        project.call("GET", "storage/v1/b/odcloud-local-odcloud-local")

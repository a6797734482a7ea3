"""A copy of the stack's project in a folder of its own, on a local cloud of its own, with the real Pulumi."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from free_port import free_port

from infra.outputs import StackOutputs
from localcloud.pulumi_provider.install import install

ROOT = Path(__file__).parents[2]
BILLING = "012345-6789AB-CDEF01"
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
        self.localcloud("start", "--port", str(free_port()))
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

    def odcloud(self, *arguments: str) -> tuple[int, str]:
        """Exit code and standard output of the launcher."""
        command = [sys.executable, "-m", "launcher.cli", *arguments]
        done = subprocess.run(command, cwd=self.root, env=self.environment, capture_output=True, text=True)
        return done.returncode, done.stdout

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
        """What a destroyed stack must not leave: buckets, accounts, repositories, bindings, budgets."""
        project = "v1/projects/odcloud-local"
        return [
            *self.call("GET", "storage/v1/b?project=odcloud-local").get("items", []),
            *self.call("GET", f"{project}/serviceAccounts").get("accounts", []),
            *self.call("GET", f"{project}/locations/us-central1/repositories").get("repositories", []),
            *self.call("POST", f"{project}:getIamPolicy", {}).get("bindings", []),
            *self.call("GET", f"v1/billingAccounts/{BILLING}/budgets").get("budgets", []),
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


@contextmanager
def running(folder: Path) -> Iterator[Project]:
    """The project in a folder, with its local cloud started and the provider installed; stopped afterwards."""
    made = Project(folder)
    made.start()
    before = Path.cwd()
    try:
        os.chdir(folder)
        try:
            install(made.home / "pulumi-home")
        finally:
            os.chdir(before)
        yield made
    finally:
        made.localcloud("stop")

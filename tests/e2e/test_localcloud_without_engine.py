"""What the commands say where no Docker engine runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from containers import container_pool
from test_localcloud_jobs import PARENT, LocalCloud

ROOT = Path(__file__).resolve().parents[2]


def test_a_job_of_containers_fails_and_names_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    cloud = LocalCloud(tmp_path / "home")
    cloud.start()
    try:
        body = {"displayName": "none", "jobSpec": {"workerPoolSpecs": [container_pool("image:1", [])]}}
        job = cloud.wait(cloud.jobs.create(parent=PARENT, body=body).execute()["name"])
    finally:
        cloud.stop()
    assert job["state"] == "JOB_STATE_FAILED"
    message = job["error"]["message"]
    assert message.startswith(f"containerSpec needs a Docker engine, and none answers at unix://{tmp_path}/none.sock")
    assert "use pythonPackageSpec" in message


@pytest.mark.parametrize("command", ["build", "push", "digest"])
def test_odcloud_image_names_the_other_builder(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    done = subprocess.run(
        [sys.executable, "-m", "launcher.cli", "image", command, "--repository", "localhost/x"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"odcloud: error: no Docker engine answers at unix://{tmp_path}/none.sock")
    assert "odcloud image build --builder cloud-build" in done.stderr
    assert len(done.stderr.splitlines()) == 1

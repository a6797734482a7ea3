"""`gcloud ai custom-jobs …` as installed, against the local cloud."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from gcloud_client import Gcloud, needs_gcloud
from packed import old_sdist

if TYPE_CHECKING:
    from conftest import LocalCloud

pytestmark = needs_gcloud

IMAGE = "us-docker.pkg.dev/vertex-ai/training/tf-cpu.2-17.py310:latest"
MODULES = {
    "greet": "import sys\nprint('hello from the chief', sys.argv[1:])\n",
    "wait": "import time\ntime.sleep(600)\n",
}
# a second way to say it: the whole spec as a file
CONFIG = """workerPoolSpecs:
- machineSpec:
    machineType: n1-standard-4
  replicaCount: 1
  pythonPackageSpec:
    executorImageUri: {image}
    packageUris: [gs://{bucket}/prog-0.1.tar.gz]
    pythonModule: prog.wait
"""
ENDED = ("JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED")


@pytest.fixture
def gcloud(local_cloud: LocalCloud, tmp_path: Path, bucket: str) -> Gcloud:
    """With a package in the test's bucket, and a file that names it."""
    local_cloud.upload(bucket, "prog-0.1.tar.gz", old_sdist("prog", MODULES))
    (tmp_path / "config.yaml").write_text(CONFIG.format(image=IMAGE, bucket=bucket))
    return Gcloud(local_cloud, tmp_path)


def wait(local_cloud: LocalCloud, name: str, *states: str) -> None:
    """Without gcloud, which is slow."""
    limit = time.monotonic() + 300
    while (job := local_cloud.call("aiplatform.projects.locations.customJobs.get", name=name))["state"] not in states:
        assert time.monotonic() < limit and job["state"] not in ENDED, job
        time.sleep(0.1)


def test_create_describe_list_and_logs(local_cloud: LocalCloud, gcloud: Gcloud, bucket: str) -> None:
    spec = f"machine-type=n1-standard-4,replica-count=1,executor-image-uri={IMAGE},python-module=prog.greet"
    made = gcloud.json(
        "ai custom-jobs create --region=us-central1 --display-name=greets --labels=kind=greeting"
        f" --python-package-uris=gs://{bucket}/prog-0.1.tar.gz --worker-pool-spec={spec} --args=--name=you"
    )
    assert made["displayName"] == "greets" and made["labels"] == {"kind": "greeting"}
    wait(local_cloud, made["name"], "JOB_STATE_SUCCEEDED")
    time.sleep(5)  # gcloud leaves the last 5 seconds out

    found = gcloud.json(f"ai custom-jobs describe {made['name']}")
    assert found["state"] == "JOB_STATE_SUCCEEDED" and found["startTime"] <= found["endTime"]
    assert found["jobSpec"]["workerPoolSpecs"][0]["pythonPackageSpec"]["args"] == ["--name=you"]

    # (gcloud asks for the job's state once, so of a job that runs it follows the log until it is interrupted)
    logs = gcloud.run(f"gcloud ai custom-jobs stream-logs {made['name']} --polling-interval=1").stdout.splitlines()
    assert any("workerpool0-0" in line and "hello from the chief ['--name=you']" in line for line in logs)
    assert logs[-1].split("\t")[2:3] == ["service"] and "Job completed successfully." in logs[-1]


def test_a_job_is_cancelled_and_seen_in_its_own_region_only(local_cloud: LocalCloud, gcloud: Gcloud, bucket: str) -> None:
    name = gcloud.json("ai custom-jobs create --region=europe-west4 --display-name=waits --config=config.yaml")["name"]
    assert "/locations/europe-west4/" in name
    listed = gcloud.run("gcloud ai custom-jobs list --region=europe-west4 --filter=displayName=waits --format=value(name)")
    assert listed.stdout.split() == [name]
    parent = "projects/odcloud-local/locations/us-central1"
    here = local_cloud.call("aiplatform.projects.locations.customJobs.list", parent=parent, filter='display_name="waits"')
    assert here == {}
    wait(local_cloud, name, "JOB_STATE_RUNNING")
    gcloud.run(f"gcloud ai custom-jobs cancel {name}")
    wait(local_cloud, name, "JOB_STATE_CANCELLED")
    number = name.rpartition("/")[2]
    assert "NOT_FOUND" in gcloud.refusal(f"ai custom-jobs describe {number} --region=us-central1")

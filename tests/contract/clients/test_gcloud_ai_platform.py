"""`gcloud ai-platform jobs …` as installed, against the local cloud: the two commands of the Object Detection API's old page
"Running on Google Cloud Platform", as gcloud spells them today, and what one does with such jobs."""

from __future__ import annotations

import json
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from gcloud_client import Gcloud, needs_gcloud
from packed import old_sdist

if TYPE_CHECKING:
    from conftest import LocalCloud

pytestmark = needs_gcloud

# The page's sample configuration, word for word.
CONFIG = """trainingInput:
  runtimeVersion: "1.2"
  scaleTier: CUSTOM
  masterType: standard_gpu
  workerCount: 9
  workerType: standard_gpu
  parameterServerCount: 3
  parameterServerType: standard


"""
TRAIN = """gcloud ai-platform jobs submit training {job} \
    --runtime-version 1.2 \
    --job-dir=gs://{bucket}/train \
    --packages dist/object_detection-0.1.tar.gz,slim/dist/slim-0.1.tar.gz \
    --module-name object_detection.train \
    --region us-central1 \
    --config {config} \
    -- \
    --train_dir=gs://{bucket}/train \
    --pipeline_config_path=gs://{bucket}/pipeline.config"""
EVAL = """gcloud ai-platform jobs submit training {job} \
    --runtime-version 1.2 \
    --job-dir=gs://{bucket}/train \
    --packages dist/object_detection-0.1.tar.gz,slim/dist/slim-0.1.tar.gz \
    --module-name object_detection.eval \
    --region us-central1 \
    --scale-tier BASIC_GPU \
    -- \
    --checkpoint_dir=gs://{bucket}/train \
    --eval_dir=gs://{bucket}/eval \
    --pipeline_config_path=gs://{bucket}/pipeline.config"""

# Each replica leaves a file that tells what it was given; the servers then wait to be shut down.
TASK = """
import json, os, sys, time, slim
config = json.loads(os.environ["TF_CONFIG"])
task = config["task"]
folder = os.path.join(os.environ["GCS_ROOT"], sys.argv[1].partition("gs://")[2])
os.makedirs(folder, exist_ok=True)
with open(os.path.join(folder, f"{task['type']}-{task['index']}"), "w") as file:
    json.dump({"arguments": sys.argv[1:], "environment": dict(os.environ)}, file)
if task["type"] == "ps":
    time.sleep(600)
if task["type"] == "master":
    while len(os.listdir(folder)) < sum(map(len, config["cluster"].values())):
        time.sleep(0.1)
    print("every replica has been here")
"""
PROGRAMS = {
    "train": TASK,
    "eval": "print('AP 0.5')\n",
    "wait": "import time\ntime.sleep(600)\n",
    "fail": "raise SystemExit('no')\n",
}


class Jobs(Gcloud):
    """gcloud in a folder that holds the page's two packages and its configuration."""

    def __init__(self, cloud: LocalCloud, folder: Path) -> None:
        super().__init__(cloud, folder)
        for name, where, modules in (("object_detection", "dist", PROGRAMS), ("slim", "slim/dist", {})):
            (folder / where).mkdir(parents=True)
            (folder / where / f"{name}-0.1.tar.gz").write_bytes(old_sdist(name, modules))
        (folder / "config.yaml").write_text(CONFIG)

    def describe(self, job: str) -> dict[str, Any]:
        found: dict[str, Any] = self.json(f"ai-platform jobs describe {job}")
        return found

    def wait(self, job: str, *states: str) -> dict[str, Any]:
        limit = time.monotonic() + 300
        while (found := self.describe(job))["state"] not in states:
            assert time.monotonic() < limit and found["state"] in ("QUEUED", "PREPARING", "RUNNING", "CANCELLING"), found
        return found


@pytest.fixture
def gcloud(local_cloud: LocalCloud, tmp_path: Path) -> Jobs:
    return Jobs(local_cloud, tmp_path)


def test_the_pages_two_commands(local_cloud: LocalCloud, gcloud: Jobs, bucket: str) -> None:
    job = "object_detection_1511000528"  # no other test names a job so: ML Engine's are looked for among Vertex AI's below
    command = TRAIN.format(job=job, bucket=bucket, config="config.yaml")
    assert f"Job [{job}] submitted successfully." in gcloud.run(command).stderr

    # the id is unique
    assert "A job with this id already exists" in gcloud.run(command, code=1).stderr

    # Each poll of gcloud's leaves out the last 5 seconds, and once the job has ended the second poll in a row that brought
    # nothing is the last. What it prints of a running job is therefore the beginning of the log: up to 5 seconds before its
    # last poll.
    # The master's line is in it, for the job goes on for longer than that: the sleeping servers are given 15 seconds to end.
    followed = gcloud.run(f"gcloud ai-platform jobs stream-logs {job} --polling-interval 1").stdout.splitlines()
    assert any("master-replica-0" in line and "every replica has been here" in line for line in followed)
    found = gcloud.wait(job, "SUCCEEDED")
    assert found["createTime"] < found["startTime"] < found["endTime"] and "errorMessage" not in found
    given = found["trainingInput"]
    assert (given["workerCount"], given["parameterServerCount"], given["runtimeVersion"]) == ("9", "3", "1.2")

    folder = local_cloud.home / "buckets" / bucket / "train"
    roles = ["master-0", *(f"ps-{i}" for i in range(3)), *(f"worker-{i}" for i in range(9))]
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == sorted(roles)
    told = json.loads((folder / "worker-8").read_text())
    assert told["arguments"] == [
        f"--train_dir=gs://{bucket}/train",
        f"--pipeline_config_path=gs://{bucket}/pipeline.config",
        "--job-dir",
        f"gs://{bucket}/train",
    ]
    config = json.loads(told["environment"]["TF_CONFIG"])
    assert {role: len(hosts) for role, hosts in config["cluster"].items()} == {"master": 1, "worker": 9, "ps": 3}
    assert config["task"] == {"type": "worker", "index": 8} and config["environment"] == "cloud"
    assert config["job"]["scale_tier"] == "CUSTOM" and config["job"]["worker_count"] == "9"
    assert told["environment"]["CLOUD_ML_JOB_ID"] == job
    assert told["environment"]["AIP_CHECKPOINT_DIR"] == f"gs://{bucket}/train/checkpoints/"
    assert json.loads(told["environment"]["CLUSTER_SPEC"])["task"] == {"type": "workerpool1", "index": 8}

    evaluation = "object_detection_eval_1511000528"
    gcloud.run(EVAL.format(job=evaluation, bucket=bucket))
    assert gcloud.wait(evaluation, "SUCCEEDED")["trainingInput"]["scaleTier"] == "BASIC_GPU"

    # of a job that ended 5 seconds ago the whole log is printed
    ended = datetime.fromisoformat(found["endTime"].replace("Z", "+00:00"))
    time.sleep(max(0.0, 6 - (datetime.now(timezone.utc) - ended).total_seconds()))
    whole = gcloud.run(f"gcloud ai-platform jobs stream-logs {job} --polling-interval 1").stdout.splitlines()
    assert whole[: len(followed)] == followed
    assert whole[-1].split("\t")[2:3] == ["service"] and "Job completed successfully." in whole[-1]

    listed = gcloud.run("gcloud ai-platform jobs list --format=value(jobId,state)").stdout.splitlines()
    assert listed[:2] == [f"{evaluation}\tSUCCEEDED", f"{job}\tSUCCEEDED"]
    # Vertex AI knows nothing of them
    parent = "projects/odcloud-local/locations/us-central1"
    others = local_cloud.call("aiplatform.projects.locations.customJobs.list", parent=parent).get("customJobs", [])
    assert not {other["displayName"] for other in others} & {job, evaluation}


def test_cancel_and_failure(local_cloud: LocalCloud, gcloud: Jobs, bucket: str) -> None:
    command = EVAL.replace("object_detection.eval", "object_detection.{module}")
    gcloud.run(command.format(job="waits", bucket=bucket, module="wait"))
    gcloud.wait("waits", "RUNNING")
    gcloud.run("gcloud ai-platform jobs cancel waits")
    assert "errorMessage" not in gcloud.wait("waits", "CANCELLED")

    gcloud.run(command.format(job="fails", bucket=bucket, module="fail"))
    message = gcloud.wait("fails", "FAILED")["errorMessage"]
    assert message == "The replica master 0 exited with a non-zero status of 1. Termination reason: Error.\nno"

    assert "The specified job was not found" in gcloud.run("gcloud ai-platform jobs describe absent", code=1).stderr

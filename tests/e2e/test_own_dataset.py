"""A published dataset's layout, converted and trained on as its user would do it: no file is renamed, none copied by hand."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import datasets
import pytest
from free_port import free_port

ROOT = Path(__file__).resolve().parents[2]
RUN = "own"
CONFIG = "examples/configs/faster_rcnn_resnet101_voc07.config"
JOB_FILE = "examples/digits/job.yaml"
JOB = "trainingInput: {scaleTier: CUSTOM, masterType: standard}\n"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


class Project:
    """A copy of the stack's project with a local cloud of its own, and in voc/ the conversion of a VOCdevkit."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("Pulumi.yaml", "Pulumi.local.yaml"):
            shutil.copy(ROOT / name, root)
        for name in ("infra", "trainer", "examples"):
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("CLOUDSDK_", "GOOGLE_", "PULUMI_", "ODCLOUD_"))}
        path = os.pathsep.join([str(Path(sys.executable).parent), kept["PATH"]])
        self.environment = {**kept, "PATH": path, "ODCLOUD_HOME": str(root / ".odcloud"), "PYTHONPATH": str(root)}
        self.shell(f"odcloud local start --port {free_port()}")
        self.environment |= json.loads(self.shell("odcloud local env --format json"))

    @property
    def bucket(self) -> str:
        return str(json.loads(self.shell("pulumi stack output --json"))["bucket"])

    def shell(self, script: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, f"$ {script}\nexit code {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    project = Project(tmp_path_factory.mktemp("own"))
    yield project
    project.shell("odcloud local stop")


def test_a_converted_dataset_is_provisioned_and_trained_on(project: Project) -> None:
    root = project.root
    datasets.voc(root / "VOCdevkit", {"trainval": 12, "test": 6}, "2007")
    said = project.shell("odcloud data convert --format voc VOCdevkit voc --shards 2")
    inputs = [line.split('"')[1] for line in said.splitlines() if "input_path: " in line]
    assert inputs == [f"PATH_TO_BE_CONFIGURED/{split}-?????-of-?????.tfrecord" for split in ("trainval", "test")]

    text = (ROOT / "examples/digits/pipeline.config").read_text()
    for old, new in (
        ("num_classes: 10", "num_classes: 20"),
        ("128", "64"),
        ("batch_size: 8", "batch_size: 4"),
        ("num_steps: 1200", "num_steps: 6"),
        ('metrics_set: "coco_detection_metrics"', 'metrics_set: "pascal_voc_detection_metrics"'),
        ("PATH_TO_BE_CONFIGURED/train-?????-of-?????.tfrecord", inputs[0]),
        ("PATH_TO_BE_CONFIGURED/test-?????-of-?????.tfrecord", inputs[1]),
    ):
        assert old in text
        text = text.replace(old, new)
    (root / CONFIG).write_text(text)  # a small network in the place of the page's
    (root / JOB_FILE).write_text(JOB)
    project.shell(
        "pulumi stack select --create local && pulumi config set odcloud:dataDir voc && "
        f"pulumi config set odcloud:pipelineConfig {CONFIG} && pulumi up --yes --skip-preview --suppress-outputs"
    )
    project.shell(f"odcloud train --config {JOB_FILE} --run {RUN} && odcloud eval --run {RUN}")
    report = json.loads(project.shell(f"odcloud report --run {RUN} --format json"))
    assert report["step"] == 6 and report["images"] == 6
    assert {"dog", "cat"} <= set(report["per_class"]) == set(report["per_class_voc"]["VOC07"])
    assert {"AP50", "VOC07", "VOC10"} <= set(report["metrics"])
    assert {"precisionRecall", "confusion"} <= set(report["files"]) and report["cost"].startswith("$")
    # Looking at it, and uploading it the other way.
    found = json.loads(project.shell(f"odcloud data inspect voc --pipeline-config {CONFIG} --samples 0 --format json"))
    assert not [check for check in found["checks"] if check["state"] == "error"]
    assert json.loads(project.shell("odcloud data push voc --format json"))["sent"] == [
        f"gs://{project.bucket}/data/dataset.json"  # the rest is what pulumi up has uploaded
    ]

"""The sample configurations, as they are but for small images: each builds, takes a training step and detects."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.data.__main__ import main as data_command

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = sorted((ROOT / "examples/configs").glob("*.config"))

# In a process of its own, for TensorFlow is told at its import which Keras to use.
PROGRAM = """
import json, sys
from trainer import runtime
runtime.prepare()
from trainer.config import experiment
from trainer import garden
from trainer.evaluation import detection
from trainer.training import cluster, stepper
import tensorflow as tf
data, small, paths = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
alone = cluster.from_environment({})
for path in paths:
    text = open(path).read().replace("PATH_TO_BE_CONFIGURED", data)
    wanted = experiment.parse(text, path)
    wanted.task["model"]["input_size"] = [small, small, 3]
    if wanted.kind == "faster_rcnn":
        wanted.task["model"]["backbone"]["resnet"]["model_id"] = 50  # a third of the layers, of the same kinds
    wanted.task["train_data"]["global_batch_size"] = 2
    task = garden.build_task(wanted, [[data + "/train-00000-of-00001.tfrecord"]], [data + "/test-00000-of-00001.tfrecord"])
    model = task.build_model()
    optimizer = garden.build_optimizer(wanted, model)
    before = [variable.numpy() for variable in model.trainable_variables]
    run = stepper.build(tf.distribute.get_strategy(), alone, task, model, optimizer, task.task_config.train_data)
    loss = run.schedule(stepper.Wish()).get().loss
    changed = sum((variable.numpy() != old).any() for variable, old in zip(model.trainable_variables, before))
    prefix = tf.train.Checkpoint(model=model).save(data + "/" + wanted.kind)
    found = list(detection.Detector(task, wanted, prefix).detect([data + "/test-00000-of-00001.tfrecord"], 2))
    print(json.dumps({
        "path": path, "loss": loss, "changed": changed / len(before), "images": len(found),
        "boxes": [item.boxes.shape[1] for item in found],
    }), flush=True)
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_each_sample_trains_and_detects(tmp_path: Path) -> None:
    assert len(SAMPLES) == 4
    assert data_command(["digits", str(tmp_path), "--train-images=4", "--test-images=2", "--shards=1"]) == 0
    # The Faster R-CNN samples differ in classes and schedules only: one of them stands for all.
    paths = [str(path) for path in SAMPLES if path.stem in ("faster_rcnn_resnet101_pets", "ssd_mobilenet_v1_pets")]
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), "128", *paths], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    made = [json.loads(line) for line in result.stdout.splitlines()]
    assert [item["path"] for item in made] == paths
    for item in made:
        assert 0 < item["loss"] < 100
        assert item["changed"] > 0.5, item
        assert item["images"] == 2
        assert set(item["boxes"]) == {4}

"""`odcloud export` of a Faster R-CNN that was configured in Model Garden's form: it says what the model in training says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.data.__main__ import main as data_command

ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-4

# In a process of its own, for TensorFlow is told at its import which Keras to use.
PROGRAM = """
import json, sys
from trainer import runtime
runtime.prepare()
import numpy as np
import tensorflow as tf
import yaml
from trainer import export, garden, predict
from trainer.evaluation import detection
from trainer.training import loop
from trainer.config import experiment
from trainer.data import records, tfrecord

data, folder, image = sys.argv[1:]
# The sample, written as `odcloud config convert` writes it, with a network of fewer layers of the same kinds.
text = open("examples/configs/faster_rcnn_resnet101_pets.config").read().replace("PATH_TO_BE_CONFIGURED", data)
text = text.replace("1024", "128").replace("/val-", "/test-").replace("num_classes: 37", "num_classes: 10")
text = text.replace("score_threshold: 0.05", "score_threshold: 0.0")
found = garden.experiment_config(experiment.parse(text, "pipeline.config"))
found["task"]["model"]["backbone"]["resnet"]["model_id"] = 18
with open(folder + "/given.yaml", "w") as file:
    yaml.safe_dump(found, file)
wanted = experiment.read(folder + "/given.yaml")
loop.copy_config(wanted, folder)
test = data + "/test-00000-of-00001.tfrecord"
task = garden.build_task(wanted, [[]], [test])
model = task.build_model()
chance = np.random.RandomState(0)
for variable in model.trainable_variables:  # so that scores differ, and no two proposals are so near that rounding sorts them
    if len(variable.shape) >= 2:
        inputs = np.prod(variable.shape[:-1])
        variable.assign(chance.normal(0, 0.8 / inputs**0.5, variable.shape))
tf.train.CheckpointManager(tf.train.Checkpoint(model=model), folder, 1, checkpoint_name="ckpt").save(checkpoint_number=3)
expected = list(detection.Detector(task, wanted, tf.train.latest_checkpoint(folder)).detect([test], None))
made = export.export(folder, folder + "/model")
served = tf.saved_model.load(folder + "/model")
errors, counts = [], []
for record, want in zip(tfrecord.read(test), expected):
    encoded = records.image(records.parse(record, "record"), "record")
    got = {name: value.numpy()[0] for name, value in served.signatures["serving_bytes"](inputs=tf.constant([encoded])).items()}
    number = int(got["num_detections"])
    counts.append([number, len(want.scores), float(np.ptp(want.scores)) if number else 0.0])
    boxes = np.clip(want.boxes / 128, 0, 1)
    differences = got["detection_boxes"][:number] - boxes, got["detection_scores"][:number] - want.scores
    errors.append(max(abs(difference).max() for difference in differences))
    same = bool((got["detection_classes"][:number] == want.classes).all())
with open(image, "wb") as file:
    file.write(encoded)
drawn = predict.predict(folder + "/model", [image], folder + "/drawn", 0.0)
print(json.dumps({
    "errors": [float(error) for error in errors], "counts": counts, "same": same, "step": made["step"],
    "predicted": len(drawn[0]["detections"]),
}))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_exported_faster_rcnn_says_what_the_model_in_training_says(tmp_path: Path) -> None:
    data, folder, image = tmp_path / "data", tmp_path / "run", tmp_path / "image.jpg"
    folder.mkdir()
    assert data_command(["digits", str(data), "--train-images=2", "--test-images=2", "--shards=1"]) == 0
    command = [sys.executable, "-c", PROGRAM, str(data), str(folder), str(image)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    made = json.loads(result.stdout.splitlines()[-1])
    assert made["step"] == 3 and made["same"]
    for served, trained, spread in made["counts"]:
        assert served == trained > 5 and spread > 10 * TOLERANCE
    assert max(made["errors"]) < TOLERANCE
    assert made["predicted"] > 0
    assert list((folder / "drawn").glob("*.png"))

"""Where training may begin: each kind of checkpoint, what does not fit, and what is kept frozen; on a small real model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# In a process of its own, for TensorFlow is told at its import which Keras to use.
PROGRAM = """
import json, sys
from trainer import runtime
runtime.prepare()
import numpy as np
import tensorflow as tf
from trainer import garden
from trainer.training import start
from trainer.config import experiment
from trainer.config.training import Start
from trainer.errors import InputError

folder = sys.argv[1]
text = open("examples/digits/pipeline.config").read().replace("PATH_TO_BE_CONFIGURED", "/data").replace("128", "64")


def build(old="", new=""):
    return garden.build_task(experiment.parse(text.replace(old, new), "p"), [[]], []).build_model()


def same(a, b):
    return all(np.array_equal(x.numpy(), y.numpy()) for x, y in zip(a.variables, b.variables))


def error(model, path, *parts):
    try:
        start.begin(model, Start(path, parts, 1))
    except InputError as found:
        return str(found)


first, wider = build(), build("depth_multiplier: 0.5", "depth_multiplier: 0.75")
run = tf.train.Checkpoint(model=first).save(folder + "/run/ckpt")
garden_like = tf.train.Checkpoint(**first.checkpoint_items).save(folder + "/garden/ckpt")
backbone = tf.train.Checkpoint(root=first.backbone).save(folder + "/backbone/ckpt")
first.backbone.save_weights(folder + "/old.h5")
first.backbone.save_weights(folder + "/new.weights.h5")
first.backbone.save(folder + "/whole.keras")
open(folder + "/broken.h5", "w").write("no HDF5")
other = tf.train.Checkpoint(weights=tf.Variable(1.0)).save(folder + "/other/ckpt")
made = {}
for name, path, parts in (
    ("run", folder + "/run", ("backbone", "decoder")), ("garden", garden_like, ("backbone",)),
    ("keras", backbone + ".index", ("backbone",)), ("old", folder + "/old.h5", ("backbone",)),
    ("new", folder + "/new.weights.h5", ("backbone",)), ("keras file", folder + "/whole.keras", ("backbone",)),
    ("whole", run, ("all",)),
):
    model = build()
    before = same(model.backbone, first.backbone) or same(model.head, first.head)
    start.begin(model, Start(path, parts, 1))
    made[name] = [before, *(same(getattr(model, part), getattr(first, part)) for part in ("backbone", "decoder", "head"))]
made["errors"] = [
    error(wider, folder + "/run", "backbone"),
    error(build("additional_layer_depth: 48", "additional_layer_depth: 40"), run, "all"),
    error(first, backbone, "all"),
    error(first, other, "backbone"),
    error(first, folder + "/none", "backbone"),
    error(first, folder, "backbone"),
]
made["keras errors"] = [
    error(wider, folder + "/old.h5", "backbone"),
    error(wider, folder + "/new.weights.h5", "backbone"),
    error(wider, folder + "/whole.keras", "backbone"),
    error(wider, folder + "/broken.h5", "backbone"),
    error(wider, folder + "/none.h5", "backbone"),
    error(wider, folder + "/old.h5", "all"),
]
total = len(first.trainable_variables)
start.freeze(first, ("FeatureExtractor/.*",))
made["frozen"] = [len(first.backbone.trainable_variables), total > len(first.trainable_variables) > 0]
try:
    start.freeze(first, ("nothing/.*",))
except InputError as found:
    made["errors"].append(str(found))
print(json.dumps(made))
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_training_begins_from_each_kind_of_checkpoint(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    made = json.loads(result.stdout.splitlines()[-1])
    # [the same before, then backbone, pyramid and heads the same]
    assert made["run"] == [False, True, True, False]
    assert made["garden"] == made["keras"] == [False, True, False, False]
    assert made["old"] == made["new"] == made["keras file"] == made["keras"]
    for message in made["keras errors"][:4]:
        assert ": does not fit the model's backbone: " in message and "\n" not in message
    assert made["keras errors"][4].endswith("/none.h5: no such file to begin from (fine_tune_checkpoint)")
    assert 'set fine_tune_checkpoint_type: "classification"' in made["keras errors"][5]
    assert made["whole"] == [False, True, True, True]
    wider, pyramid, parts, other, none, empty, pattern = made["errors"]
    assert wider.startswith(f"{tmp_path}/run: does not fit the model: ") and " has the shape (" in wider
    assert " has the shape (" in pyramid
    assert 'set fine_tune_checkpoint_type: "classification"' in parts
    assert "neither a detector nor a backbone: it has " in other and "weights" in other
    assert "no such checkpoint to begin from" in none
    assert "no checkpoint in this folder" in empty
    assert '"nothing/.*" matches no variable; their names are like ' in pattern
    assert made["frozen"] == [0, True]

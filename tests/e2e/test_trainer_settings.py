"""What the trainer does itself, because Model Garden does not: schedules, colours, averages; on a small real model."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trainer.data.__main__ import main as data_command

ROOT = Path(__file__).resolve().parents[2]

# In a process of its own, for TensorFlow is told at its import which Keras to use.
PROGRAM = """
import json, sys
from trainer import runtime
runtime.prepare()
import numpy as np
import tensorflow as tf
from trainer import colours, garden, schedule
from trainer.evaluation import detection
from trainer.training import cluster, stepper
from trainer.config import experiment
from trainer.config.augmentation import Colour
from trainer.config.rates import Exponential, HeldCosine

data = sys.argv[1]
made = {"rates": {}}
for name, kind in (
    ("burn-in", Exponential(0.5, 10, 0.5, True, 5, 0.125, 0.1)),
    ("smooth", Exponential(0.5, 10, 0.5, False, 0, 0.5, 0.0)),
    ("held", HeldCosine(0.4, 100, 10, 0.1, 30)),
):
    rate = tf.function(schedule.Rate(kind))
    made["rates"][name] = [float(rate(tf.constant(step, tf.int64))) for step in range(120)]

# Normalized as Model Garden does, with padding at the right.
plain = np.random.RandomState(0).uniform(0.3, 0.7, (2, 8, 8, 3)).astype(np.float32)
mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
batch = ((plain - mean) / deviation).astype(np.float32)
batch[:, :, 6:] = 0
made["colours"] = {}
for colour in (
    Colour("brightness", (0.2,)), Colour("contrast", (0.5, 0.8)), Colour("gray", (1.0,)), Colour("hue", (0.2,)),
    Colour("saturation", (0.1, 0.5)), Colour("pixels", (0.9, 1.1)), Colour("gamma", (2.0, 1.0)),
):
    got = colours.change_batch(tf.constant(batch), [colour]).numpy()
    assert (got[:, :, 6:] == 0).all(), colour
    made["colours"][colour.kind] = (got * deviation + mean)[:, :, :6].tolist()
made["plain"] = plain[:, :, :6].tolist()

text = open("examples/digits/pipeline.config").read().replace("PATH_TO_BE_CONFIGURED", data).replace("128", "64")
text = text.replace("batch_size: 8", "batch_size: 2").replace("eval_config {", "eval_config { use_moving_averages: true")
text = text.replace("use_moving_average: false", "moving_average_decay: 0.9")
files = [[data + "/train-00000-of-00001.tfrecord"]]


def build(more):
    wanted = experiment.parse(text.replace("num_steps: 1200", "num_steps: 1200 " + more), "p")
    wanted.task["train_data"] |= {"seed": 1, "deterministic": True}
    return wanted, garden.build_task(wanted, files, [data + "/test-00000-of-00001.tfrecord"])


def first(task):
    return next(iter(task.build_inputs(task.task_config.train_data)))[0].numpy()


wanted, task = build("")
gray = build("data_augmentation_options { random_rgb_to_gray { probability: 1 } }")[1]
red, green = ((first(gray) * deviation + mean)[..., channel] for channel in (0, 1))
made["same image"] = bool(np.allclose(first(task), first(task)))
made["gray"] = [float(abs(red - green).max()), float(abs(first(gray) - first(task)).max())]

# One image a file, which only the files' order shuffles.
wanted.task["train_data"] |= {"seed": None, "cycle_length": 1, "shuffle_buffer_size": 1, "global_batch_size": 1}
many = garden.build_task(wanted, [sorted(tf.io.gfile.glob(data + "/many/train-*"))], [])
of_worker = stepper.worker_data(many, many.task_config.train_data)
orders = [[float(abs(images.numpy()).sum()) for images, _ in of_worker().take(24)] for _ in range(2)]
made["orders"] = [[sorted(set(order)).index(one) for one in order] for order in orders]

model = task.build_model()
optimizer = garden.build_optimizer(wanted, model)
garden.begin_averages(optimizer, model)
average = [variable.numpy() for variable in model.trainable_variables]
alone = cluster.from_environment({})
run = stepper.build(tf.distribute.get_strategy(), alone, task, model, optimizer, task.task_config.train_data)
for step in range(1, 5):
    run.schedule(stepper.Wish()).get()
    decay = min(0.9, (1 + step) / (10 + step))
    average = [decay * a + (1 - decay) * v.numpy() for a, v in zip(average, model.trainable_variables)]
prefix = tf.train.Checkpoint(model=model, optimizer=optimizer).save(data + "/ckpt")
detector = detection.Detector(task, wanted, prefix)
made["averages"] = [
    max(float(abs(v.numpy() - a).max()) for v, a in zip(detector.model.trainable_variables, average)),
    max(float(abs(v.numpy() - w.numpy()).max()) for v, w in zip(detector.model.trainable_variables, model.trainable_variables)),
]
print(json.dumps(made))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("settings")
    assert data_command(["digits", str(folder), "--train-images=4", "--test-images=2", "--shards=1"]) == 0
    assert data_command(["digits", str(folder / "many"), "--train-images=8", "--test-images=8", "--shards=8"]) == 0
    command = [sys.executable, "-c", PROGRAM, str(folder)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_rates_follow_the_object_detection_apis_formulas(made: dict[str, Any]) -> None:
    steps = range(120)
    assert made["rates"]["burn-in"] == pytest.approx(
        [max(0.1, 0.125 if step < 5 else 0.5 * 0.5 ** ((step - 5) // 10)) for step in steps]
    )
    assert made["rates"]["smooth"] == pytest.approx([0.5 * 0.5 ** (step / 10) for step in steps], rel=1e-5)

    def held(step: int) -> float:
        if step < 10:
            return 0.1 + 0.03 * step
        if step <= 40:
            return 0.4
        return 0.2 * (1 + math.cos(math.pi * (step - 40) / 60)) if step < 100 else 0

    assert made["rates"]["held"] == pytest.approx([held(step) for step in steps], abs=1e-6)


def test_each_change_of_colours_is_what_its_name_says(made: dict[str, Any]) -> None:
    import numpy as np

    plain = np.array(made["plain"])
    found = {kind: np.array(images) for kind, images in made["colours"].items()}
    added = (found["brightness"] - plain).reshape(2, -1)
    assert np.ptp(added, axis=1) == pytest.approx([0, 0], abs=1e-4)
    assert abs(added[:, 0]).max() < 0.2 and added[0, 0] != pytest.approx(added[1, 0], abs=1e-6)  # each image for itself
    assert np.ptp(found["gray"], axis=-1).max() < 1e-4
    assert found["hue"].max(axis=-1) == pytest.approx(plain.max(axis=-1), abs=1e-4)  # the brightest channel's value stays
    assert abs(found["hue"] - plain).max() > 1e-3
    assert np.ptp(found["saturation"], axis=-1).max() < np.ptp(plain, axis=-1).max()
    assert (found["contrast"].std(axis=(1, 2)) < 0.85 * plain.std(axis=(1, 2))).all()
    ratio = found["pixels"] / plain
    assert 0.9 < ratio.min() < 0.93 and 1.07 < ratio.max() < 1.1
    assert found["gamma"] == pytest.approx(plain**2, abs=1e-4)


def test_training_images_are_changed(made: dict[str, Any]) -> None:
    assert made["same image"]
    difference, change = made["gray"]
    assert difference < 1e-3 < change


def test_each_worker_beside_parameter_servers_reads_all_files_in_an_order_of_its_own(made: dict[str, Any]) -> None:
    one, other = made["orders"]
    assert all(sorted(order[start : start + 8]) == [*range(8)] for order in (one, other) for start in (0, 8, 16))
    assert one != other


def test_evaluation_takes_the_averages_of_the_weights(made: dict[str, Any]) -> None:
    from_average, from_weights = made["averages"]
    assert from_average < 1e-6 < 1e-4 < from_weights

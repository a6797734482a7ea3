"""A training that is interrupted has the losses of one that is not: weights, optimizer, rate, data, random draws."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.data.__main__ import main as data_command

ROOT = Path(__file__).resolve().parents[2]
STEPS, STOPPED = 8, 3
AUGMENTATION = """
  data_augmentation_options { random_horizontal_flip { } }
  data_augmentation_options { random_image_scale { min_scale_ratio: 0.6 max_scale_ratio: 1.6 } }
  data_augmentation_options { autoaugment_image { policy_name: "test" } }
  data_augmentation_options { random_jpeg_quality { random_coef: 0.3 min_jpeg_quality: 20 } }
  data_augmentation_options { random_distort_color { } }
"""

# In a process of its own, for TensorFlow is told at its import which Keras to use. The second training is one that a
# SIGTERM stopped: its handler calls `stop`, here after a step that is known, and it begins with the first one's weights.
PROGRAM = """
import glob, json, os, shutil, sys
from trainer import runtime
runtime.prepare()
import tensorflow as tf
from trainer import garden, progress
from trainer.training import cluster, loop, watchdog
from trainer.config import experiment

data, folder, steps, stopped = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
text = open("examples/digits/pipeline.config").read().replace("PATH_TO_BE_CONFIGURED", data).replace("128", "64")
for old, new in (("batch_size: 8", "batch_size: 2"), ("num_steps: 1200", f"num_steps: {steps}"),
                 ("shuffle_buffer_size: 1000", "shuffle_buffer_size: 8"), ("warmup_steps: 100", "warmup_steps: 2"),
                 ("train_config {", "train_config {" + sys.argv[5])):
    assert old in text
    text = text.replace(old, new)
wanted = experiment.parse(text, "pipeline.config")
task = garden.build_task(wanted, [sorted(glob.glob(data + "/train-*"))], sorted(glob.glob(data + "/test-*")))


def train(where, stop_after=None):
    losses = []

    class Heard(progress.Progress):
        def update(self, step, loss=None):
            if step == stop_after:
                run.stop()

    run = loop.Training(
        wanted, cluster.from_environment({}), task, where, Heard(steps, silent=True), watchdog.Watchdog(3600, {}, print)
    )
    schedule = run._stepper.schedule

    def one(wish):  # progress tells means of losses only
        pending = schedule(wish)
        losses.append(pending.get().loss)
        return pending

    run._stepper.schedule = one
    try:
        run.run()
    except loop.StoppedError:
        pass
    return losses


loop._CHECKPOINT_SECONDS, loop._CHECKPOINT_SHARE, loop._CHECKPOINTS_KEPT = 0.0, 1e9, steps  # after each step
whole = train(folder + "/whole")
shutil.copytree(folder + "/whole", folder + "/resumed")
for name in glob.glob(folder + "/resumed/ckpt-*"):
    if int(name.rpartition("ckpt-")[2].partition(".")[0]) > stopped:
        os.remove(name)
with open(folder + "/resumed/checkpoint", "w") as state:
    state.write(f'model_checkpoint_path: "ckpt-{stopped}"\\nall_model_checkpoint_paths: "ckpt-{stopped}"\\n')
rest = train(folder + "/resumed", stop_after=steps - 3)  # and one more step, which learns of it
print(json.dumps({"whole": whole, "rest": rest, "saved": loop.last_step(folder + "/resumed")}))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_interrupted_training_has_the_losses_of_an_uninterrupted_one(tmp_path: Path) -> None:
    assert data_command(["digits", str(tmp_path / "data"), "--train-images=24", "--test-images=2", "--shards=2"]) == 0
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "data"), str(tmp_path), str(STEPS), str(STOPPED), AUGMENTATION]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    made = json.loads(result.stdout.splitlines()[-1])
    assert len(made["whole"]) == STEPS
    assert made["saved"] == STEPS - 2 and len(made["rest"]) == STEPS - 2 - STOPPED
    assert made["rest"] == pytest.approx(made["whole"][STOPPED : STEPS - 2], rel=1e-3)
    # The data matters: other batches have other losses.
    assert max(made["whole"]) > 1.01 * min(made["whole"])


# The data alone, by every way of augmentation that draws, and a training step's own draws, in a loop.
DATA_PROGRAM = """
import glob, json, re, sys
from trainer import runtime
runtime.prepare()
import tensorflow as tf
from trainer import garden
from trainer.training import position, tracing
from trainer.config import experiment

data, folder = sys.argv[1:]
files = [[path] for path in sorted(glob.glob(data + "/train-*"))]
digits = open("examples/digits/pipeline.config").read()
two_stages = open("examples/configs/faster_rcnn_resnet101_pets.config").read()
options = {
    "autoaugment": (digits, 'autoaugment_image { policy_name: "test" }', "random_adjust_hue { max_delta: 0.1 }"),
    "crop": (digits, "ssd_random_crop { }", "random_pixel_value_scale { }"),
    "two stages": (two_stages, "random_vertical_flip { }"),
}
stateful = re.compile("Random|SampleDistorted|Multinomial|TruncatedNormal")
made = {}
for name, (text, *more) in options.items():
    text = text.replace("PATH_TO_BE_CONFIGURED", data)
    text = text.replace("train_config {", "train_config {" + "".join(f" data_augmentation_options {{ {one} }}" for one in more))
    text = re.sub("shuffle_buffer_size: [0-9]+", "shuffle_buffer_size: 6", text)
    wanted = experiment.parse(text, name)
    wanted.task["model"]["input_size"] = [64, 64, 3]
    wanted.task["train_data"]["global_batch_size"] = 2
    task = garden.build_task(wanted, files, [])
    config = task.task_config.train_data

    def begin():
        dataset = tracing.plainly(lambda: position.keepable(lambda: task.build_inputs(config)))()
        graph = tf.compat.v1.GraphDef.FromString(dataset._as_serialized_graph().numpy())
        found = {node.op for function in graph.library.function for node in function.node_def if stateful.match(node.op)}
        batches = iter(dataset)
        kept = position.Position(batches, config)
        step = tf.function(lambda: draw(kept), autograph=False)
        return found, kept, lambda: [tensor.numpy().tolist() for tensor in tf.nest.flatten([next(batches), step()])]

    def draw(kept):
        with kept.kept_draws():
            drawn = tf.TensorArray(tf.int32, 4)
            for_each = lambda n, drawn: (n + 1, drawn.write(n, tf.random.shuffle(tf.range(1000))))
            return tf.while_loop(lambda n, _: n < 4, for_each, [tf.constant(0), drawn])[1].stack()

    found, kept, go_on = begin()
    before = [go_on() for _ in range(3)]
    saved = tf.train.Checkpoint(**kept.parts).write(folder + "/" + name.replace(" ", "-"))
    whole = [go_on() for _ in range(8)]
    _, kept, go_on = begin()
    at_first = go_on()
    restored = kept.restore(saved)
    made[name] = {
        "stateful": sorted(found), "restored": restored, "same": [go_on() for _ in range(8)] == whole,
        "anew": at_first != before[0], "drawn": len({json.dumps(one) for one in whole[0][-1]}),
    }
print(json.dumps(made))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_random_augmentation_goes_on_where_it_was(tmp_path: Path) -> None:
    assert data_command(["digits", str(tmp_path / "data"), "--train-images=12", "--test-images=2", "--shards=2"]) == 0
    command = [sys.executable, "-c", DATA_PROGRAM, str(tmp_path / "data"), str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    for name, made in json.loads(result.stdout.splitlines()[-1]).items():
        assert made == {"stateful": [], "restored": True, "same": True, "anew": True, "drawn": 4}, name

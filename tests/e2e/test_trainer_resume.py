"""A training that is interrupted has the losses of one that is not: weights, optimizer, rate, data, random draws."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from free_port import free_port

from trainer.data.__main__ import main as data_command

ROOT = Path(__file__).resolve().parents[2]
STEPS, STOPPED = 8, 3
AUGMENTATION = """
  data_augmentation_options { random_horizontal_flip { } }
  data_augmentation_options { random_image_scale { min_scale_ratio: 0.6 max_scale_ratio: 1.6 } }
  data_augmentation_options { autoaugment_image { } }
  data_augmentation_options { random_jpeg_quality { random_coef: 0.3 min_jpeg_quality: 20 } }
  data_augmentation_options { random_distort_color { } }
"""

# In processes of their own, for TensorFlow is told at its import which Keras to use. What a SIGTERM does is to call `stop`,
# here after a step that is known.
PROGRAM = """
import glob, json, sys
from trainer import runtime
runtime.prepare()
import tensorflow as tf
from trainer import garden, progress
from trainer.training import cluster, loop, watchdog
from trainer.config import experiment

data, folder, steps, stop_after, augmentation = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5]
text = open("examples/digits/pipeline.config").read().replace("PATH_TO_BE_CONFIGURED", data).replace("128", "64")
for old, new in (("batch_size: 8", "batch_size: 2"), ("num_steps: 1200", f"num_steps: {steps}"),
                 ("shuffle_buffer_size: 1000", "shuffle_buffer_size: 8"), ("warmup_steps: 100", "warmup_steps: 2"),
                 ("train_config {", "train_config {" + augmentation)):
    assert old in text
    text = text.replace(old, new)
wanted = experiment.parse(text, "pipeline.config")
here = cluster.from_environment()
task = garden.build_task(wanted, [sorted(glob.glob(data + "/train-*"))], sorted(glob.glob(data + "/test-*")))
losses = []


class Heard(progress.Progress):
    def update(self, step, loss=None):
        if str(step) == stop_after:
            run.stop()


loop._CHECKPOINT_SECONDS, loop._CHECKPOINT_SHARE, loop._CHECKPOINTS_KEPT = 0.0, 1e9, steps  # after each step
run = loop.Training(wanted, here, task, folder, Heard(steps, silent=True), watchdog.Watchdog(3600, {}, print))
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
print(json.dumps({"losses": losses, "saved": loop.last_step(folder)}))
"""


def train(data: Path, folder: Path, processes: int, stop_after: int | None = None) -> dict[str, Any]:
    """What the chief tells of a training to STEPS, or to the step after `stop_after`, which learns of it."""
    # Flips are soon traced.
    augmentation = AUGMENTATION if processes == 1 else "data_augmentation_options { random_horizontal_flip { } }"
    command = [sys.executable, "-c", PROGRAM, str(data), str(folder), str(STEPS), str(stop_after), augmentation]
    hosts = [f"127.0.0.1:{free_port()}" for _ in range(processes)]
    cluster = {"chief": hosts[:1], "worker": hosts[1:]}
    replicas = []
    for role, index in [(role, index) for role, addresses in cluster.items() for index in range(len(addresses))]:
        environment = os.environ | {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": role, "index": index}})}
        replicas.append(
            subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    try:
        outputs = [replica.communicate(timeout=600) for replica in replicas]
    finally:
        for replica in replicas:
            replica.kill()
    assert [replica.returncode for replica in replicas] == [0] * processes, [errors for _, errors in outputs]
    told: dict[str, Any] = json.loads(outputs[0][0].splitlines()[-1])
    return told


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("processes", [1, 2])
def test_an_interrupted_training_has_the_losses_of_an_uninterrupted_one(tmp_path: Path, processes: int) -> None:
    data, resumed = tmp_path / "data", tmp_path / "resumed"
    assert data_command(["digits", str(data), "--train-images=24", "--test-images=2", "--shards=2"]) == 0
    whole = train(data, tmp_path / "whole", processes)
    # The second one begins with the first one's state of a step.
    shutil.copytree(tmp_path / "whole", resumed)
    for path in resumed.rglob("ckpt-*"):
        if int(path.name.removeprefix("ckpt-").partition(".")[0]) > STOPPED:
            path.unlink()
    (resumed / "checkpoint").write_text(
        f'model_checkpoint_path: "ckpt-{STOPPED}"\nall_model_checkpoint_paths: "ckpt-{STOPPED}"\n'
    )
    rest = train(data, resumed, processes, stop_after=STEPS - 3)
    assert len(whole["losses"]) == STEPS
    assert rest["saved"] == STEPS - 2 and len(rest["losses"]) == STEPS - 2 - STOPPED
    assert rest["losses"] == pytest.approx(whole["losses"][STOPPED : STEPS - 2], rel=1e-3)
    # The data matters: other batches have other losses.
    assert max(whole["losses"]) > 1.01 * min(whole["losses"])


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
    "autoaugment": (digits, 'autoaugment_image { }', "random_adjust_hue { max_delta: 0.1 }"),
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


# The same training on machines of one precision after the other; of a half one the loss is scaled.
PRECISION_PROGRAM = """
import glob, json, sys
from trainer import runtime
runtime.prepare()
import tf_keras
from trainer import garden, progress
from trainer.training import cluster, loop, stepper, watchdog
from trainer.config import experiment

data, folder = sys.argv[1:]
text = open("examples/digits/pipeline.config").read().replace("PATH_TO_BE_CONFIGURED", data).replace("128", "64")
wanted = experiment.parse(text.replace("batch_size: 8", "batch_size: 2"), "pipeline.config")
made = []
for step, policy, scale in ((1, "float32", None), (2, "mixed_float16", 8), (3, "mixed_float16", 16), (4, "float32", None)):
    tf_keras.mixed_precision.set_global_policy(policy)
    stepper.use_gpu_precision = lambda: policy
    task = garden.build_task(wanted, [sorted(glob.glob(data + "/train-*"))], [])
    run = loop.Training(
        wanted, cluster.from_environment(), task, folder, progress.Progress(9, silent=True), watchdog.Watchdog(3600, {}, print)
    )
    made.append([int(run._optimizer.iterations), float(run._optimizer.loss_scale) if scale else None])
    if scale:
        run._optimizer._loss_scale.current_loss_scale.assign(scale)
    run._saved_step = step - 1
    run._save(step)
print(json.dumps(made))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_training_goes_on_on_a_machine_of_another_precision(tmp_path: Path) -> None:
    assert data_command(["digits", str(tmp_path / "data"), "--train-images=12", "--test-images=2", "--shards=2"]) == 0
    command = [sys.executable, "-c", PRECISION_PROGRAM, str(tmp_path / "data"), str(tmp_path / "train")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    # Keras's first scale where the checkpoint has none.
    assert json.loads(result.stdout.splitlines()[-1]) == [[0, None], [1, 2**15], [2, 8], [3, None]]

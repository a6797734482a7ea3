"""A training that is interrupted and goes on has the losses of one that was not: weights, optimizer, rate and data."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.data.__main__ import main as data_command

ROOT = Path(__file__).resolve().parents[2]
STEPS, STOPPED = 8, 3

# In a process of its own, for TensorFlow is told at its import which Keras to use. The second training is one that a
# SIGTERM stopped: its handler calls `stop`, here after a step that is known, and it begins with the first one's weights.
PROGRAM = """
import glob, json, os, shutil, sys
from trainer import runtime
runtime.prepare()
import tensorflow as tf
from trainer import cluster, garden, progress, training, watchdog
from trainer.config import experiment

data, folder, steps, stopped = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
text = open("examples/digits/pipeline.config").read().replace("PATH_TO_BE_CONFIGURED", data).replace("128", "64")
for old, new in (("batch_size: 8", "batch_size: 2"), ("num_steps: 1200", f"num_steps: {steps}"),
                 ("shuffle_buffer_size: 1000", "shuffle_buffer_size: 8"), ("warmup_steps: 100", "warmup_steps: 2")):
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

    run = training.Training(
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
    except training.StoppedError:
        pass
    return losses


training._CHECKPOINT_SECONDS, training._CHECKPOINT_SHARE, training._CHECKPOINTS_KEPT = 0.0, 1e9, steps  # after each step
whole = train(folder + "/whole")
shutil.copytree(folder + "/whole", folder + "/resumed")
for name in glob.glob(folder + "/resumed/ckpt-*"):
    if int(name.rpartition("ckpt-")[2].partition(".")[0]) > stopped:
        os.remove(name)
with open(folder + "/resumed/checkpoint", "w") as state:
    state.write(f'model_checkpoint_path: "ckpt-{stopped}"\\nall_model_checkpoint_paths: "ckpt-{stopped}"\\n')
rest = train(folder + "/resumed", stop_after=steps - 3)  # and one more step, which learns of it
print(json.dumps({"whole": whole, "rest": rest, "saved": training.last_step(folder + "/resumed")}))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_interrupted_training_has_the_losses_of_an_uninterrupted_one(tmp_path: Path) -> None:
    assert data_command(["digits", str(tmp_path / "data"), "--train-images=24", "--test-images=2", "--shards=2"]) == 0
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "data"), str(tmp_path), str(STEPS), str(STOPPED)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    made = json.loads(result.stdout.splitlines()[-1])
    assert len(made["whole"]) == STEPS
    assert made["saved"] == STEPS - 2 and len(made["rest"]) == STEPS - 2 - STOPPED
    assert made["rest"] == pytest.approx(made["whole"][STOPPED : STEPS - 2], rel=1e-3)
    # The data matters: other batches have other losses.
    assert max(made["whole"]) > 1.01 * min(made["whole"])

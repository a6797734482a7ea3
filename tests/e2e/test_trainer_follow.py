"""Evaluation next to training, with real checkpoints of a tiny model, and what it tells training."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# In a process of its own, for it loads TensorFlow. What an evaluation computes is not the matter here: scores are given.
PROGRAM = """
import json, os, sys, threading, time, types
from trainer import runtime
runtime.prepare()
import tensorflow as tf
from trainer import files
from trainer.evaluation import follow
from trainer.training import finish
from trainer.training.stopping import Stop

follow._POLL_SECONDS = 0.05
messages = []
follow.log = lambda message, *_, **__: messages.append(message)
train, evals = sys.argv[1:]
weights = tf.Variable(0.0)
manager = tf.train.CheckpointManager(tf.train.Checkpoint(weights=weights), train, max_to_keep=3)


class Evaluation:
    eval_dir = evals
    experiment = types.SimpleNamespace(steps=60)

    def __init__(self, scores):
        self.scores, self.seen = scores, []

    def score(self, checkpoint):
        step = int(checkpoint.rpartition("-")[2])
        self.seen.append(step)
        history = [{"step": s, "metrics": {"AP": self.scores[s]}} for s in self.seen]
        files.write(evals + "/metrics.json", json.dumps({"history": history}))
        if step == 20 and self is first:  # both have been seen: of more, the older ones would be deleted
            threading.Timer(0.2, save, [30, 40]).start()
        if step == 40 and self is first:
            finish.FinishMarker(train, "7").write("failed")  # and then nothing more
        if step == 60 and self is third:
            threading.Timer(0.2, end).start()
        return {"AP": self.scores[step]}


def save(*steps):
    for step in steps:
        manager.save(checkpoint_number=step)


def end():
    save(70)
    finish.FinishMarker(train, "8").write("finished")


third = None
save(10, 20)
first = Evaluation({10: 0.1, 20: 0.3, 30: 0.2, 40: None})
follow.follow(first, train, 60, None)
best = json.load(open(evals + "/best/best.json"))
kept = sorted(name for name in os.listdir(evals + "/best") if name.startswith("ckpt"))
# Another one goes on: nothing twice, to the last step.
save(50, 60)
second = Evaluation({40: 0.0, 50: 0.25, 60: 0.26})
files.write(evals + "/metrics.json", json.dumps({"history": [{"step": s, "metrics": {}} for s in (10, 20, 30, 40)]}))
follow.follow(second, train, 60, None)
# No better AP twice in a row: training is asked to stop, once, which it does a little later.
files.write(evals + "/metrics.json", "{}")
third = Evaluation({40: 0.1, 50: 0.2, 60: 0.15, 70: 0.1})
third.experiment = types.SimpleNamespace(steps=1000)
follow.follow(third, train, 60, 2)
asked = [message for message in messages if message.startswith("asked")]
# Begun after such a training: nothing more is to come.
follow._LAST_SECONDS = 0.1
fourth = Evaluation({70: 0.1})
fourth.experiment = third.experiment
follow.follow(fourth, train, 60, 2)
print(json.dumps({
    "first": first.seen, "best": best, "kept": kept, "second": second.seen, "third": third.seen, "asked": Stop(train).asked(),
    "times": len(asked), "fourth": fourth.seen, "end": messages[-1],
}))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_each_checkpoint_is_evaluated_once_and_the_best_is_kept(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "train"), str(tmp_path / "eval")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["first"] == [10, 20, 30, 40]
    assert found["best"] == {"step": 20, "AP": 0.3}
    assert found["kept"] == ["ckpt-20.data-00000-of-00001", "ckpt-20.index"]
    assert found["second"] == [50, 60]
    assert found["third"] == [40, 50, 60, 70]  # the best is 0.3 of step 20, which these do not reach
    assert found["asked"] == "evaluation found no better AP than 0.3 of step 20" and found["times"] == 1
    assert found["fourth"] == []
    assert found["end"] == "training was asked to stop, and has no new checkpoint; all is evaluated"

"""Graphs without AutoGraph, and with it where Python's own control flow meets a tensor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = """
import json
import tensorflow as tf
from trainer.training import tracing

count = tf.Variable(0)


def change(value):  # changes its variable before AutoGraph turns out to be needed
    count.assign_add(1)
    if value > 1:
        return value * 10
    return value


def fail(value):
    return tf.constant("text") + value


step = tracing.Compiled(change)
found = [int(step.use(lambda run: run(tf.constant(value)))) for value in (1, 2, 3)]
numbers = tf.data.Dataset.range(4)
needed = tracing.plainly(lambda: numbers.map(lambda value: value * 10 if value > 1 else value))()
plain = tracing.plainly(lambda: numbers.map(lambda value: value + 1))()
try:
    tracing.Compiled(fail).use(lambda run: run(tf.constant(1)))
except TypeError as error:
    failed = type(error).__name__
print(json.dumps([found, int(count), [int(n) for n in needed], [int(n) for n in plain], failed]))
"""


def test_what_needs_autograph_gets_it(tmp_path: Path) -> None:
    script = tmp_path / "script.py"  # AutoGraph reads the source
    script.write_text(SCRIPT)
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_USE_LEGACY_KERAS": "1", "PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr[-2000:]
    assert json.loads(run.stdout) == [[1, 20, 30], 3, [0, 1, 20, 30], [1, 2, 3, 4], "TypeError"]

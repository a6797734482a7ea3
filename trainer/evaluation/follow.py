"""Evaluation next to training: each new checkpoint once, the last one always; the best is kept, a vain training ended.

What it tells training is a file in the folder of the checkpoints, for an evaluation is a job of its own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Protocol

import tensorflow as tf

from trainer import files, paths
from trainer.config.experiment import Experiment
from trainer.errors import InputError
from trainer.progress import duration, log
from trainer.training.finish import ended_since
from trainer.training.loop import step_of
from trainer.training.stopping import Stop

BEST = "best"
_POLL_SECONDS = 5.0
# A training that was asked to stop saves within this once more and then no more, unless the wish is taken back.
_LAST_SECONDS = 300.0
_SCORE = "AP"


class Evaluation(Protocol):
    """What is done with a checkpoint."""

    eval_dir: str
    experiment: Experiment

    def score(self, checkpoint: str) -> Mapping[str, float | None]:
        """Its metrics."""


def follow(evaluation: Evaluation, checkpoint_dir: str, idle_seconds: float, patience: int | None) -> None:
    """Evaluates what appears in the folder until training has ended there, or nothing has appeared for so long.

    Training has ended when it has reached its steps, a job of it says so that ended after this began, or it was asked to stop
    and nothing more appears. patience: ask it to stop after so many evaluations in a row without a better AP; None: never.
    Raises InputError.
    """
    began = time.time_ns()
    stop, stopping = Stop(checkpoint_dir), False
    best = _read_best(evaluation.eval_dir)
    done = _evaluated(evaluation.eval_dir)
    worse, changed = 0, time.monotonic()
    while True:
        # Asked before looking, so that a last checkpoint is not overlooked.
        ended = ended_since(checkpoint_dir, began)
        before, stopping = stopping, stop.asked() is not None
        if stopping and not before:
            changed = time.monotonic()
        for checkpoint in _new(checkpoint_dir, done):
            step = step_of(checkpoint)
            try:
                score = evaluation.score(checkpoint).get(_SCORE)
            except InputError:
                if tf.io.gfile.exists(f"{checkpoint}.index"):
                    raise
                log(f"the checkpoint of step {step} was removed by training before it was evaluated", "WARNING")
                done.add(step)
                continue
            done.add(step)
            changed = time.monotonic()
            worse += 1
            if score is not None and (best is None or score > best[1]):
                best, worse = (step, score), 0
                _keep(checkpoint, evaluation.eval_dir, step, score)
            if patience and worse >= patience and best and not stopping:
                stop.ask(step, best[0], best[1])
                log(f"asked training to stop: since step {best[0]} no evaluation of {worse} has raised the AP of {best[1]:.3f}")
                stopping, worse = True, 0
        if done and max(done) >= evaluation.experiment.steps:
            log(f"training has reached its last step, {max(done)}; all is evaluated")
            return
        if ended:
            log(f"training has {ended}; all is evaluated")
            return
        idle = time.monotonic() - changed
        if stopping and idle > _LAST_SECONDS:
            log("training was asked to stop, and has no new checkpoint; all is evaluated")
            return
        if idle > idle_seconds:
            log(f"no new checkpoint for {duration(idle_seconds)}; evaluation ends", "WARNING")
            return
        time.sleep(_POLL_SECONDS)


def _new(folder: str, done: set[int]) -> list[str]:
    """Prefixes of the folder's checkpoints that are not evaluated, in the order of their steps; none of those that are gone."""
    state = tf.train.get_checkpoint_state(folder)
    found = [path for path in state.all_model_checkpoint_paths if step_of(path) not in done] if state else []
    return sorted((path for path in found if tf.io.gfile.exists(f"{path}.index")), key=step_of)


def _evaluated(eval_dir: str) -> set[int]:
    """The steps that metrics.json has scores of already."""
    try:
        history = json.loads(files.read(paths.join(eval_dir, "metrics.json")) or "{}").get("history", [])
        return {int(entry["step"]) for entry in history}
    except (OSError, ValueError, AttributeError, KeyError, TypeError):  # evaluated anew then
        return set()


def _read_best(eval_dir: str) -> tuple[int, float] | None:
    try:
        found = json.loads(files.read(paths.join(eval_dir, BEST, "best.json")) or "{}")
        return int(found["step"]), float(found[_SCORE])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep(checkpoint: str, eval_dir: str, step: int, score: float) -> None:
    """Copies the best checkpoint so far to EVAL_DIR/best, where training's policy does not remove it."""
    folder = paths.join(eval_dir, BEST)
    try:
        tf.io.gfile.makedirs(folder)
        before = tf.io.gfile.glob(paths.join(folder, "ckpt-*"))
        # The index last: with it the checkpoint is whole.
        parts = sorted(tf.io.gfile.glob(f"{checkpoint}.*"), key=lambda path: path.endswith(".index"))
        for part in parts:
            tf.io.gfile.copy(part, paths.join(folder, part.rpartition("/")[2]), overwrite=True)
        name = checkpoint.rpartition("/")[2]
        # Which tf.train.latest_checkpoint reads.
        files.write(
            paths.join(folder, "checkpoint"), f'model_checkpoint_path: "{name}"\nall_model_checkpoint_paths: "{name}"\n'
        )
        files.write(paths.join(folder, "best.json"), json.dumps({"step": step, _SCORE: score}) + "\n")
        for path in before:
            if not path.rpartition("/")[2].startswith(f"{name}."):
                tf.io.gfile.remove(path)
    except (OSError, tf.errors.OpError) as error:
        log(f"the best checkpoint, of step {step}, cannot be kept in {folder}: {error}", "WARNING")

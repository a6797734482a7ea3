"""The chief's work: runs the steps, keeps checkpoints and events, and comes back after a lost parameter server."""

from __future__ import annotations

import gc
import math
import tempfile
import time
from collections import deque
from pathlib import PurePath
from typing import Any

import tensorflow as tf

from trainer import files, garden, paths
from trainer.config import garden_yaml
from trainer.config.experiment import Experiment
from trainer.errors import InputError
from trainer.progress import Progress, log
from trainer.training import placement, start, stepper, tracing
from trainer.training.cluster import CHIEF, Cluster
from trainer.training.stopping import Stop
from trainer.training.watchdog import Watchdog, explodes

# A kill loses at most about so much work; a checkpoint may take so much of the time.
_CHECKPOINT_SECONDS = 20.0
_CHECKPOINT_SHARE = 0.05
_CHECKPOINTS_KEPT = 3
_ASK_SECONDS = 10.0  # between looks for an evaluation's wish to stop
_SUMMARIES = 100  # points of a curve
# What tells that a server or the connection to it is gone, and not a mistake in the model. The data is repeated without end, so
# it is "out of range" only where a worker's iterator was cancelled: a worker and a server died at the same time.
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.DeadlineExceededError,
    tf.errors.CancelledError,
    tf.errors.OutOfRangeError,
)
_LOST_WORDS = ("unknown device", "Unable to find the relevant tensor remote_handle", "Unable to find a context_id")


# What tells that a record is at fault, which the check before training (records.check) has not met.
_BAD_DATA_WORDS = ("DecodeImage", "DecodeJpeg", "JPEG", "PNG", "corrupted record", "truncated record")


class ClusterLostError(Exception):
    """A replica is gone without which training cannot go on: it must begin again from the last checkpoint."""


class BadDataError(Exception):
    """A training record cannot be read, or its image not decoded. The message: what TensorFlow says."""


class StoppedError(Exception):
    """Training was asked to stop, and has saved its state."""


class Training:
    """Trains one experiment to its number of steps, from wherever train_dir's last checkpoint is."""

    def __init__(
        self, experiment: Experiment, cluster: Cluster, task: Any, train_dir: str, progress: Progress, watchdog: Watchdog
    ) -> None:
        self._watchdog = watchdog
        self._experiment = experiment
        self._train_dir = train_dir
        self._progress = progress
        self._stop = self._early = False
        self._stop_file = Stop(train_dir)
        self._asked_at = time.monotonic()
        try:
            self._build(cluster, task)
        except tf.errors.OpError as error:
            raise _explained(error) from error

    def _build(self, cluster: Cluster, task: Any) -> None:
        strategy = stepper.connect(cluster)
        self._progress.phase("building the model")
        precision = "float32" if cluster.servers else stepper.use_gpu_precision()
        with strategy.scope(), placement.spread(strategy):
            self._model = tracing.plainly(task.build_model)()
            start.freeze(self._model, self._experiment.frozen)
            self._optimizer = garden.build_optimizer(self._experiment, self._model)
        self._resumed = last_checkpoint(self._train_dir)
        if self._resumed:
            self._restore(tf.train.Checkpoint(model=self._model, optimizer=self._optimizer), self._resumed)
        else:
            if self._experiment.start:
                start.begin(self._model, self._experiment.start)
            if garden.averages(self._experiment):
                with strategy.scope():
                    garden.begin_averages(self._optimizer, self._model)
        # After the checkpoint is read, which may be of a machine with another precision: then it has no scale of losses.
        with strategy.scope():
            self._optimizer = garden.scale_losses(self._optimizer)
        parts = {"model": self._model, "optimizer": self._optimizer}
        self._stepper = stepper.build(strategy, cluster, task, self._model, self._optimizer, task.task_config.train_data)
        position = self._stepper.position
        # Replicas that train together save together. What all but the chief write of the model is the same, and of no use;
        # where in its data each is belongs to it alone.
        self._leads = cluster.role == CHIEF
        own, kept = self._train_dir, parts | position.parts
        self._managers: list[Any] = []
        if not self._leads:
            own, kept = paths.join(self._train_dir, "positions", cluster.name.replace(" ", "-")), position.parts
            self._managers.append(_Discarded(parts))
        if kept:
            self._managers.append(
                tf.train.CheckpointManager(
                    tf.train.Checkpoint(**kept),
                    own,
                    max_to_keep=_CHECKPOINTS_KEPT,
                    keep_checkpoint_every_n_hours=self._experiment.keep_every_hours,
                )
            )
        if self._resumed and not position.restore(paths.join(own, PurePath(self._resumed).name)):
            log("the data is shuffled anew: the checkpoint does not tell how far in it training was")
        self._writer = tf.summary.create_file_writer(self._train_dir) if self._leads else tf.summary.create_noop_writer()
        if self._leads:
            log(f"training with {type(strategy).__name__} in {precision}")

    def _restore(self, checkpoint: tf.train.Checkpoint, path: str) -> None:
        try:
            checkpoint.restore(path).assert_existing_objects_matched()
        except (AssertionError, ValueError, tf.errors.InvalidArgumentError, tf.errors.NotFoundError) as error:
            raise InputError(
                f"{path}: is not a checkpoint of this pipeline configuration's model and optimizer: "
                f"{start.difference(error)}; "
                "train into another --train_dir, or go back to the configuration of that training"
            ) from error

    def stop(self) -> None:
        """Asks the running `run` to save and end; safe to call from a signal handler."""
        self._stop = True

    def run(self) -> None:
        """Trains to the end.

        Raises StoppedError after `stop`, ClusterLostError when the variables are lost, BadDataError when a record cannot be
        read, InputError when the loss is no number.
        """
        try:
            self._run()
        except tf.errors.OpError as error:
            raise _explained(error) from error

    def _run(self) -> None:
        total = self._experiment.steps
        step = self._saved_step = int(self._optimizer.iterations.numpy())
        self._saved_at = time.monotonic()
        self._save_seconds = 0.0
        if step:
            log(f"resuming from step {step} ({self._resumed})", step=step)
        self._progress.update(step)
        self._progress.phase("first step")
        every = max(1, min(100, total // _SUMMARIES))
        losses: list[float] = []
        while step < total:
            for loss in self._steps(step, total):
                step += 1
                gc.enable()  # see trainer.train: from here on little is made that stays
                self._watchdog.step()
                losses.append(loss)
                if not math.isfinite(loss) or explodes(losses):
                    raise InputError(
                        f"the loss became {loss:.4g} in step {step}, with batch {len(losses)} since the start: lower the "
                        "learning rate, or clip gradients (train_config.gradient_clipping_by_norm). The last good state is "
                        "train_dir's checkpoint"
                    )
                self._progress.update(step, sum(losses[-10:]) / len(losses[-10:]))
                if step % every == 0 or step == total:
                    self._summarize(step, losses[-every:])
            self._save(step)
            self._watchdog.step()
            if self._agreed.stop and step < total:
                early = self._stop_file.asked()
                if early and not self._stop:
                    log(f"training ends at step {step}: {early}", step=step)
                    break
                if not self._stop:
                    raise ClusterLostError("another replica was asked to stop")
                raise StoppedError
        self._writer.close()

    def _steps(self, step: int, total: int) -> Any:
        """Yields each step's loss as steps come to an end, until it is time for a checkpoint; then none is under way."""
        pending: deque[stepper.Pending] = deque()
        scheduled = step
        self._agreed = stepper.Wish()
        while True:
            while not any(self._agreed) and scheduled < total and len(pending) < self._stepper.window:
                pending.append(self._stepper.schedule(self._wish()))
                scheduled += 1
            if not pending:
                return
            outcome = pending.popleft().get()
            self._agreed = stepper.Wish(*(a or b for a, b in zip(self._agreed, outcome.wish, strict=True)))
            yield outcome.loss

    def _wish(self) -> stepper.Wish:
        patience = max(_CHECKPOINT_SECONDS, self._save_seconds / _CHECKPOINT_SHARE)
        if self._leads and time.monotonic() - self._asked_at > _ASK_SECONDS:
            self._asked_at = time.monotonic()
            self._early = self._stop_file.asked() is not None
        return stepper.Wish(save=self._leads and time.monotonic() - self._saved_at > patience, stop=self._stop or self._early)

    def _save(self, step: int) -> None:
        began = time.monotonic()
        if step > self._saved_step:
            # A step whose worker is killed is given to another; where the first had already updated, it must not count twice.
            self._optimizer.iterations.assign(step)
            try:
                for manager in self._managers:
                    manager.save(checkpoint_number=step)
            except (
                tf.errors.ResourceExhaustedError,
                tf.errors.PermissionDeniedError,
                tf.errors.FailedPreconditionError,
            ) as error:
                raise InputError(
                    f"{self._train_dir}: checkpoint {step} cannot be written: {str(error.message).splitlines()[0]}; "
                    f"make room, then train again: it goes on from step {self._saved_step}"
                ) from error
            self._saved_step = step
        self._saved_at = time.monotonic()
        self._save_seconds = self._saved_at - began

    def _summarize(self, step: int, losses: list[float]) -> None:
        with self._writer.as_default(step=step):
            tf.summary.scalar("training/loss", sum(losses) / len(losses))
            tf.summary.scalar("training/learning_rate", garden.learning_rate(self._optimizer, step))
            rate = self._progress.steps_per_second()
            if rate:
                tf.summary.scalar("training/steps_per_second", rate)
        self._writer.flush()


class _Discarded:
    """In place of a CheckpointManager: takes part in the common act of saving, and keeps nothing on the machine's disk."""

    def __init__(self, parts: dict[str, Any]) -> None:
        self._checkpoint = tf.train.Checkpoint(**parts)

    def save(self, checkpoint_number: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            self._checkpoint.write(f"{folder}/ckpt-{checkpoint_number}")


def last_checkpoint(folder: str) -> str | None:
    """The prefix of the folder's last checkpoint; None without one."""
    checkpoint: str | None = tf.train.latest_checkpoint(folder)
    return checkpoint


def step_of(checkpoint: str) -> int:
    """The step that a checkpoint's name tells: 600 of ckpt-600."""
    number = checkpoint.rpartition("-")[2]
    return int(number) if number.isdigit() else 0


def last_step(folder: str) -> int:
    """The step of the folder's last checkpoint; 0 without one."""
    checkpoint = last_checkpoint(folder)
    return step_of(checkpoint) if checkpoint else 0


def copy_config(experiment: Experiment, train_dir: str) -> None:
    """Keeps the configuration beside what is trained with it. Raises InputError when train_dir cannot be written."""
    try:
        name = "pipeline.yaml" if garden_yaml.is_yaml(experiment.path) else "pipeline.config"
        files.write(paths.join(train_dir, name), experiment.text)
    except OSError as error:
        raise InputError(
            f"{train_dir}: cannot be written: {error.strerror or error}; check --train_dir and the disk"
        ) from error


def _explained(error: tf.errors.OpError) -> Exception:
    """The error as a lost cluster or as bad data, where it is one of these; else as it is."""
    words = str(error.message)
    # TensorFlow's text is long; the line that says what happened is the one with the matter itself in it.
    lines = [line.strip() for line in words.splitlines() if line.strip()] or [type(error).__name__]
    if isinstance(error, _LOST) or any(word in words for word in _LOST_WORDS):
        return ClusterLostError(next((line for line in lines if "UNAVAILABLE" in line or "connect" in line), lines[0])[:200])
    if isinstance(error, tf.errors.DataLossError) or any(word in words for word in _BAD_DATA_WORDS):
        said = (line for line in lines if any(word in line for word in _BAD_DATA_WORDS) and not line.startswith("Detected at"))
        return BadDataError(next(said, lines[0]).rpartition(": ")[2][:200])
    return error

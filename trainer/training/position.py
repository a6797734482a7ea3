"""Where training stands in its data and its random draws, kept in the checkpoint for a run that goes on.

It is the state of tf.data's iterator (the open files' places, the records that wait in the shuffle buffer, the batches made
ahead, what random augmentation will draw), and that of the draws of the training step itself (Faster R-CNN samples its boxes).
tf.data keeps it for an iterator of one process and one device only.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from trainer.data import tfrecord
from trainer.progress import log
from trainer.training import draws

# The shuffle buffer holds encoded records: of many large ones each checkpoint would hold gigabytes.
_MOST_BYTES = 200_000_000
_BATCHES_AHEAD = 4  # about
_SAMPLE = 20  # records whose size stands for all
_ITERATOR, _SOURCE, _RANDOM = "data", "data_source", "random"


class Position:
    """What a checkpoint needs to hold for it; nothing where it cannot be kept."""

    def __init__(self, batches: Any, data: Any, share: tuple[int, int] = (0, 1)) -> None:
        """batches: the iterator that training draws from; data: Model Garden's DataConfig that it was made of.

        share: which part of the data it is, of how many, where several processes train together.
        """
        self.parts: dict[str, Any] = {}
        self._generator = None
        if not isinstance(batches, tf.data.Iterator):
            return
        with tf.device("CPU:0"):  # where operations take their seeds from, also those of a GPU
            self._generator = tf.random.Generator.from_non_deterministic_state()
        self.parts[_RANDOM] = self._generator
        described = data.as_dict()
        files = _files(described["input_path"])
        size = _buffer_bytes(files, data.shuffle_buffer_size) + _BATCHES_AHEAD * _batch_bytes(batches)
        if size > _MOST_BYTES:
            log(
                f"the place in the data is not kept in checkpoints: shuffle_buffer_size {data.shuffle_buffer_size} makes it "
                f"about {size / 1e6:.0f} MB, and {_MOST_BYTES / 1e6:.0f} are kept at most"
            )
            return
        lengths = [tf.io.gfile.stat(path).length for path in files]
        source = json.dumps([tf.version.VERSION, described, lengths, share], sort_keys=True, default=str)
        self._source = hashlib.sha256(source.encode()).hexdigest()
        self.parts |= {_ITERATOR: batches, _SOURCE: tf.Variable(self._source, trainable=False)}

    def kept_draws(self) -> contextlib.AbstractContextManager[None]:
        """Within it a training step is to be made, so that its random draws are part of the state, if there is one."""
        return draws.kept_by(self._generator) if self._generator else contextlib.nullcontext()

    def restore(self, checkpoint: str) -> bool:
        """Goes to where the checkpoint's run was; False where there is none, it does not say, or speaks of other data."""
        if not self.parts or not tf.io.gfile.exists(f"{checkpoint}.index"):
            return False
        tf.train.Checkpoint(**{_RANDOM: self._generator}).read(checkpoint).expect_partial()
        key = f"{_SOURCE}/.ATTRIBUTES/VARIABLE_VALUE"
        reader = tf.train.load_checkpoint(checkpoint)
        if _ITERATOR not in self.parts or not reader.has_tensor(key) or reader.get_tensor(key).decode() != self._source:
            return False
        try:
            tf.train.Checkpoint(**{_ITERATOR: self.parts[_ITERATOR]}).read(checkpoint).expect_partial()
        except tf.errors.OpError:  # of another pipeline after all; the iterator is as it was then
            return False
        return True


def keepable(build: Callable[[], tf.data.Dataset]) -> tf.data.Dataset:
    """The dataset that `build` gives, with iterators whose state may be kept, the state of what it draws at random included."""
    options = tf.data.Options()
    # Its operations have states of their own all the same: the variables of one element, which are gone with it.
    options.experimental_external_state_policy = tf.data.experimental.ExternalStatePolicy.IGNORE
    with draws.kept_by_iterators():
        return build().with_options(options)


def _files(paths: Any) -> list[str]:
    """The paths of a DataConfig: a list, or lists by name."""
    return sorted(itertools.chain.from_iterable(paths.values())) if isinstance(paths, dict) else list(paths)


def _batch_bytes(batches: tf.data.Iterator) -> int:
    shapes = [(spec.shape.as_list(), spec.dtype.size) for spec in tf.nest.flatten(batches.element_spec)]
    return sum(math.prod(side or 1 for side in shape) * size for shape, size in shapes)


def _buffer_bytes(files: Sequence[str], records: int) -> float:
    sizes = [len(record) for path in files[:1] for record in itertools.islice(tfrecord.read(path), _SAMPLE)]
    total = sum(tf.io.gfile.stat(path).length for path in files)
    return min(total, records * sum(sizes) / max(1, len(sizes)))

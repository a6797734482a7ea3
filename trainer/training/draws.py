"""Random draws with a state that checkpoints hold, where tf.random and tf.image draw in this module's contexts.

TensorFlow keeps the state of such an operation in the operation, where nothing can read it. Here the operation is made of its
stateless form instead, with a seed from a state that a variable holds (the scheme of tf.random.Generator): for a training step
a variable that a checkpoint holds, for an element of a dataset one of its own that begins with numbers drawn for the element
(tf.data.Dataset.random, whose state is part of the iterator's).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.ops import gen_image_ops, gen_random_ops

_PHILOX = 1  # tf.random.Algorithm.PHILOX
_STATE_SIZE = 3  # of Philox: a counter of two, and a key


@contextlib.contextmanager
def kept_by(generator: tf.random.Generator) -> Iterator[None]:
    """Within it what is drawn is drawn of the generator."""
    with _drawn_of(generator.state.handle):
        yield


@contextlib.contextmanager
def kept_by_iterators() -> Iterator[None]:
    """Within it tf.data.Dataset.map gives datasets whose iterators' state tells what will be drawn."""
    plain_map = tf.data.Dataset.map

    @functools.wraps(plain_map)
    def keeping_map(dataset: tf.data.Dataset, function: Callable[..., Any], *arguments: Any, **named: Any) -> tf.data.Dataset:
        def draw_and_call(element: Any, state: Any) -> Any:
            with _drawn_of(_variable(state)):
                return function(*element) if type(element) is tuple else function(element)

        states = tf.data.Dataset.random().batch(_STATE_SIZE, drop_remainder=True)
        return plain_map(tf.data.Dataset.zip(dataset, states), draw_and_call, *arguments, **named)

    with _replaced(tf.data.Dataset, map=keeping_map):
        yield


def _variable(value: Any) -> Any:
    """A variable of this call of the function that is being traced, gone with the call."""
    handle = tf.raw_ops.VarHandleOp(dtype=value.dtype, shape=value.shape, shared_name=context.anonymous_name())
    tf.raw_ops.AssignVariableOp(resource=handle, value=value)
    return handle


@contextlib.contextmanager
def _drawn_of(state: Any) -> Iterator[None]:
    """state: the handle of a variable of int64 and shape [3]. Each draw, also each in a loop, takes the next seed of it."""

    def seed() -> Any:
        counter_and_key = tf.raw_ops.RngReadAndSkip(resource=state, alg=_PHILOX, delta=tf.constant(1, tf.uint64))
        return counter_and_key[::2]  # the counter's lower half, and the key

    # The signatures are those of the operations that are replaced; their own seeds have no say.
    def uniform(shape: Any, dtype: Any, **_: Any) -> Any:
        return tf.random.stateless_uniform(shape, seed(), dtype=dtype)

    def uniform_int(shape: Any, minval: Any, maxval: Any, **_: Any) -> Any:
        return tf.random.stateless_uniform(shape, seed(), minval, maxval, minval.dtype)

    def normal(shape: Any, dtype: Any, **_: Any) -> Any:
        return tf.random.stateless_normal(shape, seed(), dtype=dtype)

    def shuffle(value: Any, **_: Any) -> Any:
        return tf.random.experimental.stateless_shuffle(value, seed())

    def distorted_box(image_size: Any, bounding_boxes: Any, seed2: Any = None, **named: Any) -> Any:
        return gen_image_ops.stateless_sample_distorted_bounding_box(image_size, bounding_boxes, **named | {"seed": seed()})

    with (
        _replaced(
            gen_random_ops,
            random_uniform=uniform,
            random_uniform_int=uniform_int,
            random_standard_normal=normal,
            random_shuffle=shuffle,
        ),
        _replaced(gen_image_ops, sample_distorted_bounding_box_v2=distorted_box),
    ):
        yield


@contextlib.contextmanager
def _replaced(owner: Any, **attributes: Any) -> Iterator[None]:
    originals = {name: getattr(owner, name) for name in attributes}
    for name, value in attributes.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name, value in originals.items():
            setattr(owner, name, value)

"""TensorFlow graphs made without AutoGraph, whose translation of all Python code that is met takes most of a start.

Model Garden's code hardly needs it. Where it does, TensorFlow says so with a TypeError (Python's own `if`, `for` or `range` has
met a tensor), and the translation is done after all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def plainly(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, so that what it traces is not translated unless it must be. It may be called twice for one call."""
    plain = tf.autograph.experimental.do_not_convert(function)

    def call(*arguments: Any) -> Any:
        try:
            return plain(*arguments)
        except TypeError:
            return function(*arguments)

    return call


class Compiled:
    """A tf.function of a function that changes variables: what a failed trace leaves in a graph must not be run."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function: Callable[..., Any] | None = function
        self._compiled = tf.function(tf.autograph.experimental.do_not_convert(function))

    def use(self, run: Callable[[Any], Any]) -> Any:
        """What `run` gives for the tf.function, or for the translated one if it cannot be traced without."""
        try:
            return run(self._compiled)
        except TypeError:
            if self._function is None:
                raise
        self._compiled, self._function = tf.function(self._function), None
        return run(self._compiled)

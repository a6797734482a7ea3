"""Which parameter server holds a variable: the one with the least so far, by size.

TensorFlow's own way is one after the other in the order of creation (tf.distribute.ParameterServerStrategy), so that with some
numbers of servers all large kernels come to the same ones, hence the advice to take an odd number of them.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any


class Balance:
    """Assigns sizes, as they come, to servers."""

    def __init__(self, servers: int) -> None:
        self.loads = [0] * servers

    def place(self, size: int) -> int:
        """The server for something of this size: of the least loaded, the first."""
        server = min(range(len(self.loads)), key=self.loads.__getitem__)
        self.loads[server] += size
        return server


def by_turns(sizes: Sequence[int], servers: int) -> list[int]:
    """Load of each server when sizes are assigned one after the other, as TensorFlow does."""
    return [sum(sizes[server::servers]) for server in range(servers)]


def by_size(sizes: Sequence[int], servers: int) -> list[int]:
    """Load of each server when sizes are assigned as Balance does."""
    balance = Balance(servers)
    for size in sizes:
        balance.place(size)
    return balance.loads


@contextlib.contextmanager
def spread(strategy: Any) -> Iterator[None]:
    """Within it, and the strategy's scope, variables go to servers by size; where there are no servers it changes nothing.

    An optimizer's slots go where their variable is.
    """
    import tensorflow as tf

    if not isinstance(strategy, tf.distribute.ParameterServerStrategy):
        yield
        return
    extended = strategy.extended
    balance = Balance(extended._num_ps)

    def create(next_creator: Any, **settings: Any) -> Any:
        if settings.get("colocate_with") is None:
            # The strategy takes this number, modulo the servers, for the next variable's server.
            extended._variable_count = balance.place(_size(settings))
        return next_creator(**settings)

    with tf.variable_creator_scope(create):
        yield


def _size(settings: dict[str, Any]) -> int:
    """Bytes of a variable to be made; 1 where its shape shows later only."""
    import tensorflow as tf

    shape, value = settings.get("shape"), settings.get("initial_value")
    if shape is None and not callable(value):
        shape = getattr(value, "shape", ())
    if shape is None:
        return 1
    dimensions = tf.TensorShape(shape).as_list()
    return math.prod(dimensions) * tf.as_dtype(settings.get("dtype") or tf.float32).size

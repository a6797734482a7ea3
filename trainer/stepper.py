"""One training step, on this process or on whichever worker is free: the same handle for both."""

from __future__ import annotations

from typing import Any, Protocol

import tensorflow as tf

from trainer.cluster import CHIEF, Cluster


class Pending(Protocol):
    """A step that is under way."""

    def get(self) -> Any:
        """Waits for the step's losses, a float vector."""


class Stepper(Protocol):
    """Runs training steps."""

    window: int  # how many steps to keep under way

    def schedule(self) -> Pending:
        """Starts a step."""


class LocalStepper:
    """Runs each step here and now."""

    window = 1

    def __init__(self, task: Any, model: Any, optimizer: Any, data: Any) -> None:
        self._batches = iter(task.build_inputs(data))
        self._step = tf.function(_step_fn(task, model, optimizer, tf.distribute.get_strategy()))

    def schedule(self) -> Pending:
        return _Done(self._step(self._batches))


class ClusterStepper:
    """Gives steps to the workers, which update the variables on the parameter servers as they finish (asynchronously)."""

    def __init__(self, strategy: Any, task: Any, model: Any, optimizer: Any, data: Any) -> None:
        self._coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
        workers = strategy._num_workers
        self.window = 3 * workers
        dataset_fn = tf.function(lambda: task.build_inputs(data))
        self._batches = iter(self._coordinator.create_per_worker_dataset(dataset_fn))
        self._step = tf.function(_step_fn(task, model, optimizer, strategy))

    def schedule(self) -> Pending:
        return _Scheduled(self._coordinator, self._coordinator.schedule(self._step, args=(self._batches,)))


def _step_fn(task: Any, model: Any, optimizer: Any, strategy: Any) -> Any:
    def replica_step(inputs: Any) -> Any:
        logs = task.train_step(inputs, model=model, optimizer=optimizer)
        return logs[task.loss]

    def step(batches: Any) -> Any:
        return strategy.run(replica_step, args=(next(batches),))

    return step


def connect(cluster: Cluster) -> Any:
    """The strategy for the cluster; the default one when there is none. Blocks until every replica has answered."""
    if cluster.alone:
        return tf.distribute.get_strategy()
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec(cluster.spec()), task_type=CHIEF, task_id=0, rpc_layer="grpc"
    )
    return tf.distribute.ParameterServerStrategy(resolver)


class _Scheduled:
    def __init__(self, coordinator: Any, value: Any) -> None:
        self._coordinator = coordinator
        self._value = value

    def get(self) -> Any:
        try:
            return self._value.get()
        except tf.errors.CancelledError:
            self._coordinator.join()  # raises what another step failed of, for which this one was cancelled
            raise


class _Done:
    def __init__(self, value: Any) -> None:
        self._value = value

    def get(self) -> Any:
        return self._value.numpy()

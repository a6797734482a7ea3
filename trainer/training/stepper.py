"""One training step: on this process, on all replicas at once, or on whichever worker is free. The same handle for each."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import tensorflow as tf
import tf_keras

from trainer.errors import InputError
from trainer.training import position, tracing
from trainer.training.cluster import CHIEF, Cluster

# NVIDIA's compute capability from which on tensor cores take such numbers (CUDA C++ Programming Guide, "Tensor Cores").
_FLOAT16_SINCE, _BFLOAT16_SINCE = (7, 0), (8, 0)


class Wish(NamedTuple):
    """What a replica would like to do after a step."""

    save: bool = False
    stop: bool = False


class Outcome(NamedTuple):
    """A finished step. wish: what any of the replicas that did the step together wants; the same on all of them."""

    loss: float
    wish: Wish


class Pending(Protocol):
    """A step that is under way."""

    def get(self) -> Outcome:
        """Waits for the step's end."""


class Stepper(Protocol):
    """Runs training steps."""

    window: int  # how many steps to keep under way
    position: position.Position  # in the training data and in random draws

    def schedule(self, wish: Wish) -> Pending:
        """Starts a step."""


class SyncStepper:
    """Runs each step here and now, and at the same time on the other replicas of the strategy, if it has any.

    The batch is divided among them. They learn of each other's wishes with the losses, so that all save and stop after the
    same step: saving is a common act, for each replica has a part of the statistics.
    """

    window = 1

    def __init__(self, strategy: Any, cluster: Cluster, task: Any, model: Any, optimizer: Any, data: Any) -> None:
        replicas = strategy.num_replicas_in_sync
        if data.global_batch_size % replicas:
            raise InputError(
                f"train_config.batch_size {data.global_batch_size} cannot be divided among {replicas} replicas, which train "
                f"synchronously; make it a multiple of {replicas}"
            )
        build_inputs = tracing.plainly(lambda context: position.keepable(lambda: task.build_inputs(data, context)))
        if replicas == cluster.processes:
            # An iterator of tf.data's own: the strategy's would be one that spreads over devices, whose state cannot be kept.
            self._batches = iter(build_inputs(tf.distribute.InputContext(cluster.processes, cluster.rank, replicas)))
        else:
            self._batches = iter(strategy.distribute_datasets_from_function(build_inputs))
        self.position = position.Position(self._batches, data, (cluster.rank, cluster.processes))

        def replica_step(inputs: Any, wish: Any) -> Any:
            with self.position.kept_draws():
                loss = task.train_step(inputs, model=model, optimizer=optimizer)[task.loss]
            return tf.concat([tf.reshape(tf.cast(loss, tf.float32) / replicas, [1]), wish], 0)

        def step(batches: Any, wish: Any) -> Any:
            results = strategy.run(replica_step, args=(next(batches), wish))
            return strategy.reduce(tf.distribute.ReduceOp.SUM, results, axis=None)

        self._step = tracing.Compiled(step)

    def schedule(self, wish: Wish) -> Pending:
        wishes = tf.constant(wish, tf.float32)
        loss, save, stop = self._step.use(lambda step: step(self._batches, wishes)).numpy()
        return _Done(Outcome(float(loss), Wish(save > 0, stop > 0)))


class ClusterStepper:
    """Gives steps to the workers, which update the variables on the parameter servers as they finish (asynchronously)."""

    def __init__(self, strategy: Any, cluster: Cluster, task: Any, model: Any, optimizer: Any, data: Any) -> None:
        self._coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
        self.window = 3 * len(cluster.workers)
        self.position = position.Position(None, data)  # each worker has its own
        self._batches = iter(self._coordinator.create_per_worker_dataset(worker_data(task, data)))

        def replica_step(inputs: Any) -> Any:
            return task.train_step(inputs, model=model, optimizer=optimizer)[task.loss]

        self._step = tracing.Compiled(lambda batches: strategy.run(replica_step, args=(next(batches),)))

    def schedule(self, wish: Wish) -> Pending:
        value = self._step.use(lambda step: self._coordinator.schedule(step, args=(self._batches,)))
        return _Scheduled(self._coordinator, value, wish)


def worker_data(task: Any, data: Any) -> Any:
    """The tf.function that makes a worker's dataset: all of the data, in an order of its own."""
    # To shard, Model Garden draws the seed of the files' order in Python (official/core/input_reader.py), which is once for all
    # workers, as the function is traced. Nothing is sharded anyway without an input context.
    whole = data.replace(sharding=False)
    return tf.function(tracing.plainly(lambda: task.build_inputs(whole)), autograph=False)


def connect(cluster: Cluster) -> Any:
    """The strategy that the cluster and this machine's GPUs ask for. Blocks until every replica has answered.

    With parameter servers each worker's update counts by itself; without them chief and workers compute each step together, as
    several GPUs of one machine do; a single device needs no strategy.
    """
    if cluster.servers:
        return tf.distribute.ParameterServerStrategy(_resolver(cluster, CHIEF, 0))
    if cluster.workers:
        return tf.distribute.MultiWorkerMirroredStrategy(_resolver(cluster, cluster.role, cluster.index))
    if len(tf.config.list_physical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def _resolver(cluster: Cluster, role: str, index: int) -> Any:
    spec = tf.train.ClusterSpec(cluster.spec())
    return tf.distribute.cluster_resolver.SimpleClusterResolver(spec, task_type=role, task_id=index, rpc_layer="grpc")


def build(strategy: Any, cluster: Cluster, task: Any, model: Any, optimizer: Any, data: Any) -> Stepper:
    """The stepper for a strategy."""
    kind = ClusterStepper if isinstance(strategy, tf.distribute.ParameterServerStrategy) else SyncStepper
    return kind(strategy, cluster, task, model, optimizer, data)


def use_gpu_precision() -> str:
    """Sets the precision that models are built in: half precision if all of this machine's GPUs are fast in it. Its name."""
    details = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    policy = precision([tuple(detail.get("compute_capability", (0, 0))) for detail in details])
    tf_keras.mixed_precision.set_global_policy(policy)
    return policy


def precision(capabilities: list[tuple[int, ...]]) -> str:
    """The Keras policy for GPUs of such compute capabilities (major, minor); float32 without a GPU."""
    if not capabilities:
        return "float32"
    worst = min(capabilities)
    if worst >= _BFLOAT16_SINCE:
        return "mixed_bfloat16"
    return "mixed_float16" if worst >= _FLOAT16_SINCE else "float32"


class _Scheduled:
    def __init__(self, coordinator: Any, value: Any, wish: Wish) -> None:
        self._coordinator = coordinator
        self._value = value
        self._wish = wish

    def get(self) -> Outcome:
        try:
            return Outcome(float(self._value.get()), self._wish)
        except tf.errors.CancelledError:
            self._coordinator.join()  # raises what another step failed of, for which this one was cancelled
            raise


class _Done(NamedTuple):
    outcome: Outcome

    def get(self) -> Outcome:
        return self.outcome

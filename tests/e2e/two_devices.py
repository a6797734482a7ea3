"""Trains as on a machine with two GPUs: two virtual devices of this CPU, in the precision named first on the command line."""

from __future__ import annotations

import sys
from typing import Any

import tensorflow as tf
import tf_keras

from trainer import train
from trainer.training import stepper


def connect(_: Any) -> Any:
    """MirroredStrategy over the virtual devices, for those of TensorFlow's own choice would be GPUs."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def use(policy: str) -> str:
    """Sets the precision that a GPU would be given."""
    tf_keras.mixed_precision.set_global_policy(policy)
    return policy


if __name__ == "__main__":
    precision, *arguments = sys.argv[1:]
    virtual = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], virtual)
    stepper.connect = connect
    stepper.use_gpu_precision = lambda: use(precision)
    sys.exit(train.main(arguments))

"""Model Garden's objects for an experiment: task, model, optimizer. The one module that names its classes."""

from __future__ import annotations

from typing import Any

import tf_keras
from official.modeling import optimization
from official.vision.configs import retinanet as retinanet_config
from official.vision.tasks import retinanet

from trainer.config.experiment import Experiment


def build_task(experiment: Experiment, train_files: list[str], eval_files: list[str]) -> Any:
    """The RetinaNet task: data, model, losses."""
    config = retinanet_config.RetinaNetTask()
    config.override(experiment.task, is_strict=True)
    config.train_data.input_path = train_files
    config.validation_data.input_path = eval_files
    return retinanet.RetinaNetTask(config)


def build_optimizer(experiment: Experiment) -> Any:
    """The optimizer with its learning rate schedule."""
    factory = optimization.OptimizerFactory(optimization.OptimizationConfig(experiment.optimizer))
    return factory.build_optimizer(factory.build_learning_rate())


def learning_rate(optimizer: Any, step: int) -> float:
    """The rate at a step, which is the same on all replicas."""
    rate = optimizer.learning_rate
    return float(rate(step) if isinstance(rate, tf_keras.optimizers.schedules.LearningRateSchedule) else rate)

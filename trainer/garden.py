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


def build_optimizer(experiment: Experiment, model: Any) -> Any:
    """The optimizer with its learning rate schedule and all of its variables, so that what a checkpoint lacks shows early."""
    factory = optimization.OptimizerFactory(optimization.OptimizationConfig(experiment.optimizer))
    optimizer = factory.build_optimizer(factory.build_learning_rate())
    optimizer.iterations  # noqa: B018
    optimizer._create_all_weights(model.trainable_variables)
    if tf_keras.mixed_precision.global_policy().name == "mixed_float16":
        # Gradients that half precision would lose are scaled up (Model Garden's training steps know of it).
        return tf_keras.mixed_precision.LossScaleOptimizer(optimizer)
    return optimizer


def learning_rate(optimizer: Any, step: int) -> float:
    """The rate at a step, which is the same on all replicas."""
    rate = optimizer.learning_rate
    return float(rate(step) if isinstance(rate, tf_keras.optimizers.schedules.LearningRateSchedule) else rate)

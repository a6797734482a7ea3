"""Model Garden's objects for an experiment: task, model, optimizer. The one module that names its classes."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Iterator
from typing import Any

import tf_keras
from official.core import config_definitions
from official.modeling import hyperparams, optimization
from official.vision.configs import maskrcnn as maskrcnn_config
from official.vision.configs import retinanet as retinanet_config
from official.vision.tasks import maskrcnn, retinanet

from trainer import colours, schedule
from trainer.config.experiment import Experiment
from trainer.config.inputs import Reader
from trainer.errors import InputError

_CONFIGS = {"retinanet": retinanet_config.RetinaNetTask, "faster_rcnn": maskrcnn_config.MaskRCNNTask}
_AVERAGE = "average"  # the slot of Model Garden's ExponentialMovingAverage
_NUMBERS = (int, float, bool)
_TASKS = {"retinanet": retinanet.RetinaNetTask, "faster_rcnn": maskrcnn.MaskRCNNTask}


def task_config(experiment: Experiment) -> Any:
    """Model Garden's config of the task, without files. Raises InputError where it has no such field or takes no such value."""
    config = _CONFIGS[experiment.kind]()
    try:
        config.override(experiment.task, is_strict=True)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{experiment.path}: task: Model Garden does not take this: {_words(error)}") from error
    _check(config, experiment.path, "task")
    return config


def build_task(experiment: Experiment, train_files: list[list[str]], eval_files: list[str]) -> Any:
    """The task: data, model, losses. train_files: of each of the input paths."""
    config = task_config(experiment)
    config.train_data = _with_files(config.train_data, train_files, experiment.train)
    config.validation_data.input_path = eval_files
    task = _TASKS[experiment.kind](config)
    if experiment.colours:
        colours.add(task, experiment.colours)
    return task


def _with_files(data: Any, files: list[list[str]], reader: Reader) -> Any:
    if not reader.weights:
        data.input_path = [path for group in files for path in group]
        return data
    # Drawn from by weight; Model Garden wants names for that.
    names = [f"input{number}" for number in range(len(files))]
    data.input_path = hyperparams.Config(dict(zip(names, files, strict=True)))
    data.weights = hyperparams.Config(dict(zip(names, reader.weights, strict=True)))
    return data


def build_optimizer(experiment: Experiment, model: Any) -> Any:
    """The optimizer with its learning rate schedule and all of its variables, so that what a checkpoint lacks shows early."""
    factory = optimization.OptimizerFactory(optimizer_config(experiment))
    rate = schedule.Rate(experiment.schedule) if experiment.schedule else factory.build_learning_rate()
    optimizer = factory.build_optimizer(rate)
    optimizer.iterations  # noqa: B018
    optimizer._create_all_weights(model.trainable_variables)
    if averages(experiment):
        optimizer.shadow_copy(model)
    return optimizer


def scale_losses(optimizer: Any) -> Any:
    """The optimizer, in half precision around it one that scales up gradients which would be lost in it.

    Model Garden's training steps know of it. Its scale is a restored checkpoint's, if that has one.
    """
    if tf_keras.mixed_precision.global_policy().name != "mixed_float16":
        return optimizer
    return tf_keras.mixed_precision.LossScaleOptimizer(optimizer)


def averages(experiment: Experiment) -> bool:
    """Whether moving averages of the weights are kept, which are what is evaluated and exported."""
    return bool(experiment.optimizer.get("ema"))


def begin_averages(optimizer: Any, model: Any) -> None:
    """Sets the averages to the weights, as at a training's beginning."""
    for variable in model.trainable_variables:
        optimizer.get_slot(variable, _AVERAGE).assign(variable)


def take_averages(optimizer: Any, model: Any) -> None:
    """Sets the weights to their averages."""
    for variable in model.trainable_variables:
        variable.assign(optimizer.get_slot(variable, _AVERAGE))


def optimizer_config(experiment: Experiment) -> Any:
    """Model Garden's config of the optimizer. Raises InputError where it takes no such value."""
    try:
        config = optimization.OptimizationConfig(experiment.optimizer)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{experiment.path}: optimizer: Model Garden does not take this: {_words(error)}") from error
    _check(config, experiment.path, "trainer.optimizer_config")
    return config


def learning_rate(optimizer: Any, step: int) -> float:
    """The rate at a step, which is the same on all replicas."""
    rate = optimizer.learning_rate
    return float(rate(step) if isinstance(rate, tf_keras.optimizers.schedules.LearningRateSchedule) else rate)


def experiment_config(experiment: Experiment) -> dict[str, Any]:
    """The whole experiment as `official.vision.train --config_file` takes it, with the input paths as they were written."""
    config = task_config(experiment)
    config.train_data = _with_files(config.train_data, [[pattern] for pattern in experiment.train.patterns], experiment.train)
    if not experiment.train.weights:
        config.train_data.input_path = ",".join(experiment.train.patterns)
    config.validation_data.input_path = ",".join(experiment.evaluation.patterns)
    if experiment.start:
        config.init_checkpoint = experiment.start.path
        config.init_checkpoint_modules = ",".join(experiment.start.parts)
    images = experiment.eval.examples
    trainer = config_definitions.TrainerConfig(
        train_steps=experiment.steps,
        optimizer_config=optimizer_config(experiment),
        validation_steps=math.ceil(images / experiment.eval.batch_size) if images else -1,
    )
    return {"task": config.as_dict(), "trainer": trainer.as_dict()}


def _check(config: Any, path: str, name: str) -> None:
    """Raises InputError for the first field of a config that Model Garden does not know, or of another type than its own."""
    for problem in _misfits(config, name):
        raise InputError(f"{path}: {problem}")


def _misfits(config: Any, name: str) -> Iterator[str]:
    if type(config) is hyperparams.Config:  # has the fields that it is given
        return
    hints = typing.get_type_hints(type(config))
    values = {key: value for key, value in vars(config).items() if key not in config.RESERVED_ATTR}
    for key, value in values.items():
        if key not in hints:
            yield f"{name}.{key}: Model Garden has no such field"
        elif not _fits(value, hints[key]):
            yield f"{name}.{key} must be {_wanted(hints[key])}, not {value!r}"
        for item in value if isinstance(value, list | tuple) else [value]:
            if isinstance(item, hyperparams.Config):
                yield from _misfits(item, f"{name}.{key}")
    if isinstance(config, hyperparams.OneOfConfig) and config.type is not None and config.type not in values:
        yield f"{name}.type must be one of {', '.join(sorted(values.keys() - {'type'}))}, not {config.type!r}"


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a field's type. Any number does for any: Model Garden itself mixes them."""
    if value is None or hint is Any:
        return True
    kind, of = typing.get_origin(hint), typing.get_args(hint)
    if kind in (typing.Union, types.UnionType):
        return any(_fits(value, one) for one in of)
    if kind is not None:  # List, Tuple, Sequence
        return isinstance(value, list | tuple) and all(_fits(item, of[0]) for item in value)
    if hint in _NUMBERS:
        return isinstance(value, int | float)
    # In a sequence Model Garden makes plain configs of mappings.
    return isinstance(value, hyperparams.Config if issubclass(hint, hyperparams.Config) else hint)


def _wanted(hint: Any) -> str:
    kind, of = typing.get_origin(hint), [one for one in typing.get_args(hint) if one is not type(None)]
    if kind in (typing.Union, types.UnionType):
        return " or ".join(map(_wanted, of))
    if kind is not None:
        return f"a list, each {_wanted(of[0])}"
    return "a number" if hint in _NUMBERS else "a text" if hint is str else "a mapping"


def _words(error: Exception) -> str:
    return " ".join(str(error.args[0] if error.args else error).split())[:300]

"""train_config { … } to Model Garden's trainer settings: optimizer, learning rate, steps, augmentation."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from trainer.config import augmentation, rates
from trainer.config.augmentation import Augmentation
from trainer.config.section import Section

# What a checkpoint gives, by fine_tune_checkpoint_type; the heads are of the classes, which may be others.
_PARTS = {
    "classification": ["backbone"],
    "detection": ["backbone", "decoder"],
    "fine_tune": ["backbone", "decoder"],
    "full": ["all"],
}


@dataclass(frozen=True)
class TrainSettings:
    """What train_config decides."""

    batch_size: int
    steps: int
    optimizer: dict[str, Any]
    schedule: rates.Schedule | None
    augmentation: Augmentation
    max_boxes: int
    keep_every_hours: float
    start: Start | None
    frozen: tuple[str, ...]


@dataclass(frozen=True)
class Start:
    """What training begins from. path: a checkpoint or its folder; parts: backbone, decoder, or all."""

    path: str
    parts: tuple[str, ...]
    line: int


def read(section: Section, kind: str, averaged: bool) -> TrainSettings:
    """Reads and checks the whole section, for a model of the kind "retinanet" or "faster_rcnn".

    averaged: whether evaluation takes the weights' moving averages.
    """
    steps = section.required("num_steps", "say when training ends, for example num_steps: 200000")
    if section.has("num_steps") and steps == 0:
        section.refuse("num_steps", "must be above 0: say when training ends, for example num_steps: 200000")
    cluster = "workers train synchronously where there is no parameter server, else each for itself"
    section.nearly("sync_replicas", False, cluster)
    section.nearly("replicas_to_aggregate", 1, cluster)
    if section.has("startup_delay_steps"):
        section.nearly("startup_delay_steps", 0.0, "all workers start at once")
    section.nearly("use_bfloat16", False, "GPUs that are fast in half precision are used so, others not")
    section.only("add_regularization_loss", True, "to train without it, leave the regularizers out")
    section.without_effect(
        "batch_queue_capacity", "num_batch_queue_threads", "prefetch_queue_capacity", "unpad_groundtruth_tensors",
        "retain_original_images", "summarize_gradients",
    )  # fmt: skip
    clip = section.value("gradient_clipping_by_norm")
    optimizer, schedule = _optimizer(section.required_section("optimizer"), clip, averaged)
    return TrainSettings(
        batch_size=section.positive("batch_size"),
        steps=steps,
        optimizer=optimizer,
        schedule=schedule,
        augmentation=augmentation.read(section, kind),
        max_boxes=section.positive("max_number_of_boxes"),
        keep_every_hours=section.positive("keep_checkpoint_every_n_hours"),
        start=_start(section),
        frozen=_frozen(section),
    )


def _start(section: Section) -> Start | None:
    """fine_tune_checkpoint and the fields about it"""
    section.without_effect(
        "fine_tune_checkpoint_version", "load_all_detection_checkpoint_vars", "run_fine_tune_checkpoint_dummy_computation"
    )
    detection, kind = section.value("from_detection_checkpoint"), section.value("fine_tune_checkpoint_type")
    if kind and kind not in _PARTS:
        section.refuse("fine_tune_checkpoint_type", f'"{kind}" is not supported; supported: {", ".join(_PARTS)}')
        return None
    if not section.value("fine_tune_checkpoint"):
        return None
    parts = _PARTS[kind or ("detection" if detection else "classification")]
    return Start(section.value("fine_tune_checkpoint"), tuple(parts), section.line("fine_tune_checkpoint"))


def _frozen(section: Section) -> tuple[str, ...]:
    patterns = section.value("freeze_variables")
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            section.refuse("freeze_variables", f'"{pattern}" is not a regular expression: {error}')
    return tuple(patterns)


def _optimizer(section: Section, clip: float, averaged: bool) -> tuple[dict[str, Any], rates.Schedule | None]:
    """Model Garden's OptimizationConfig, and the learning rate's schedule where that cannot express it."""
    average = _average(section, averaged)
    kind, optimizer = section.choice("optimizer", ["adam_optimizer", "momentum_optimizer", "rms_prop_optimizer"])
    if optimizer is None:
        return {}, None
    settings: dict[str, Any]
    if kind == "adam_optimizer":
        name, settings = "adam", {"epsilon": optimizer.value("epsilon")}
    elif kind == "momentum_optimizer":
        name, settings = "sgd", {"momentum": optimizer.value("momentum_optimizer_value")}
    else:
        name = "rmsprop"
        settings = {
            "rho": optimizer.value("decay"),
            "momentum": optimizer.value("momentum_optimizer_value"),
            "epsilon": optimizer.value("epsilon"),
        }
    if clip > 0:
        settings["global_clipnorm"] = clip
    rate = rates.read(optimizer.required_section("learning_rate"))
    return {"optimizer": {"type": name, name: settings}, **rate.garden, **average}, rate.exact


def _average(section: Section, averaged: bool) -> dict[str, Any]:
    """Averages are kept where evaluation takes them: nothing else looks at them."""
    wanted = section.value("use_moving_average")
    if averaged and not wanted:
        section.refuse("use_moving_average", "false leaves eval_config.use_moving_averages true nothing to evaluate")
    if not averaged:
        section.without_effect("use_moving_average", "moving_average_decay")
        return {}
    decay = section.value("moving_average_decay")
    if not 0 < decay < 1:
        section.refuse("moving_average_decay", f"{decay:g} must be between 0 and 1")
    # The first steps' weights count less: the decay is min(decay, (1 + step) / (10 + step)), as TensorFlow 1 had it.
    return {"ema": {"average_decay": decay, "dynamic_decay": True}}

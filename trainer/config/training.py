"""train_config { … } to Model Garden's trainer settings: optimizer, learning rate, steps, augmentation."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from trainer.config import augmentation
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
    augmentation: dict[str, Any]
    max_boxes: int
    keep_every_hours: int
    start: Start | None
    frozen: tuple[str, ...]


@dataclass(frozen=True)
class Start:
    """What training begins from. path: a checkpoint or its folder; parts: backbone, decoder, or all."""

    path: str
    parts: tuple[str, ...]
    line: int


def read(section: Section, kind: str) -> TrainSettings:
    """Reads and checks the whole section, for a model of the kind "retinanet" or "faster_rcnn"."""
    steps = section.required("num_steps", "training without an end is not supported")
    if section.has("num_steps") and steps == 0:
        section.refuse("num_steps", "must be above 0: training without an end is not supported")
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
    return TrainSettings(
        batch_size=section.positive("batch_size"),
        steps=steps,
        optimizer=_optimizer(section.required_section("optimizer"), clip),
        augmentation=augmentation.read(section, kind),
        max_boxes=section.positive("max_number_of_boxes"),
        keep_every_hours=section.positive("keep_checkpoint_every_n_hours"),
        start=_start(section),
        frozen=_frozen(section),
    )


def _start(section: Section) -> Start | None:
    """fine_tune_checkpoint and the fields about it"""
    section.without_effect("fine_tune_checkpoint_version", "load_all_detection_checkpoint_vars")
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


def _optimizer(section: Section, clip: float) -> dict[str, Any]:
    section.nearly("use_moving_average", False, "the weights themselves are kept, not their moving average")
    section.without_effect("moving_average_decay")
    kind, optimizer = section.choice("optimizer", ["adam_optimizer", "momentum_optimizer", "rms_prop_optimizer"])
    if optimizer is None:
        return {}
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
    return {"optimizer": {"type": name, name: settings}, **_learning_rate(optimizer.required_section("learning_rate"))}


def _learning_rate(section: Section) -> dict[str, Any]:
    kind, rate = section.choice(
        "learning_rate",
        [
            "constant_learning_rate",
            "cosine_decay_learning_rate",
            "exponential_decay_learning_rate",
            "manual_step_learning_rate",
        ],
    )
    if rate is None:
        return {}
    if kind == "constant_learning_rate":
        return _schedule("constant", {"learning_rate": rate.positive("learning_rate")})
    if kind == "cosine_decay_learning_rate":
        return _cosine(rate)
    if kind == "exponential_decay_learning_rate":
        return _exponential(rate)
    return _manual(rate)


def _exponential(rate: Section) -> dict[str, Any]:
    """initial_learning_rate · decay_factor ** (step / decay_steps), in stairs unless staircase is false."""
    rate.only("min_learning_rate", 0.0, "the rate decays without a floor")
    burnin, burnin_rate = rate.value("burnin_steps"), rate.value("burnin_learning_rate")
    schedule = _schedule(
        "exponential",
        {
            "initial_learning_rate": rate.positive("initial_learning_rate"),
            "decay_steps": rate.positive("decay_steps"),
            "decay_rate": rate.positive("decay_factor"),
            "staircase": rate.value("staircase"),
        },
    )
    if burnin:
        schedule["learning_rate"]["exponential"]["offset"] = burnin
        if burnin_rate:
            rate.approximate("burnin_learning_rate", "the rate rises linearly from this one to the initial one")
        schedule["warmup"] = _linear(burnin, burnin_rate)
    return schedule


def _cosine(rate: Section) -> dict[str, Any]:
    """learning_rate_base · (1 + cos(π · (step − warmup_steps) / (total_steps − warmup_steps))) / 2, after a linear warm-up."""
    rate.nearly("hold_base_rate_steps", 0, "the rate decays right after the warm-up")
    base, total, warmup = rate.positive("learning_rate_base"), rate.positive("total_steps"), rate.value("warmup_steps")
    if warmup >= total:
        rate.refuse("warmup_steps", f"{warmup} must be below total_steps {total}")
        return {}
    schedule = _schedule("cosine", {"initial_learning_rate": base, "decay_steps": total - warmup, "offset": warmup})
    if warmup:
        schedule["warmup"] = _linear(warmup, rate.value("warmup_learning_rate"))
    else:
        rate.without_effect("warmup_learning_rate")
    return schedule


def _manual(rate: Section) -> dict[str, Any]:
    warmup = rate.value("warmup")
    boundaries: list[int] = []
    values: list[float] = [rate.positive("initial_learning_rate")]
    for step in rate.sections("schedule"):
        boundary = step.required("step")
        if boundaries and boundary <= boundaries[-1]:
            step.refuse("step", f"{boundary} must be above the step before it, {boundaries[-1]}")
        boundaries.append(boundary)
        values.append(step.positive("learning_rate"))
    if not boundaries:
        return _schedule("constant", {"learning_rate": values[0]})
    schedule = _schedule("stepwise", {"boundaries": boundaries, "values": values})
    if warmup and boundaries[0] > 0:  # linearly from the initial rate to the first one of the schedule
        schedule = _schedule("stepwise", {"boundaries": boundaries[1:], "values": values[1:]})
        if not boundaries[1:]:
            schedule = _schedule("constant", {"learning_rate": values[1]})
        schedule["warmup"] = _linear(boundaries[0], values[0])
    return schedule


def _linear(steps: int, rate: float) -> dict[str, Any]:
    return {"type": "linear", "linear": {"warmup_steps": steps, "warmup_learning_rate": rate}}


def _schedule(kind: str, settings: dict[str, Any]) -> dict[str, Any]:
    return {"learning_rate": {"type": kind, kind: settings}}

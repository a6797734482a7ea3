"""train_config { … } to Model Garden's trainer settings: optimizer, learning rate, steps, augmentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trainer.config.section import Section


@dataclass(frozen=True)
class TrainSettings:
    """What train_config decides."""

    batch_size: int
    steps: int
    optimizer: dict[str, Any]
    flip: bool
    max_boxes: int
    keep_every_hours: int


def read(section: Section) -> TrainSettings:
    """Reads and checks the whole section."""
    steps = section.required("num_steps", "training without an end is not supported")
    if section.has("num_steps") and steps == 0:
        section.refuse("num_steps", "must be above 0: training without an end is not supported")
    section.only("sync_replicas", False, "parameter servers take each worker's update as it comes")
    section.only("replicas_to_aggregate", 1, "parameter servers take each worker's update as it comes")
    if section.has("startup_delay_steps"):
        section.only("startup_delay_steps", 0.0, "all workers start at once")
    section.only("add_regularization_loss", True, "to train without it, leave the regularizers out")
    section.without_effect(
        "batch_queue_capacity", "num_batch_queue_threads", "prefetch_queue_capacity", "unpad_groundtruth_tensors"
    )
    clip = section.value("gradient_clipping_by_norm")
    return TrainSettings(
        batch_size=section.positive("batch_size"),
        steps=steps,
        optimizer=_optimizer(section.required_section("optimizer"), clip, steps),
        flip=_flip(section),
        max_boxes=section.positive("max_number_of_boxes"),
        keep_every_hours=section.positive("keep_checkpoint_every_n_hours"),
    )


def _flip(section: Section) -> bool:
    flip = False
    for step in section.sections("data_augmentation_options"):
        _, flipping = step.choice("preprocessing_step", ["random_horizontal_flip"])
        if flipping:
            flipping.only("probability", 0.5, "images are flipped half of the time")
            flip = True
    return flip


def _optimizer(section: Section, clip: float, steps: int) -> dict[str, Any]:
    section.only("use_moving_average", False, "the weights themselves are kept, not their moving average")
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
        rate.only("burnin_steps", 0, "the rate decays from the first step")
        rate.without_effect("burnin_learning_rate")
        rate.only("min_learning_rate", 0.0, "the rate decays without a floor")
        return _schedule(
            "exponential",
            {
                "initial_learning_rate": rate.positive("initial_learning_rate"),
                "decay_steps": rate.positive("decay_steps"),
                "decay_rate": rate.positive("decay_factor"),
                "staircase": rate.value("staircase"),
            },
        )
    return _manual(rate)


def _cosine(rate: Section) -> dict[str, Any]:
    """learning_rate_base · (1 + cos(π · (step − warmup_steps) / (total_steps − warmup_steps))) / 2, after a linear warm-up."""
    rate.only("hold_base_rate_steps", 0, "the rate decays right after the warm-up")
    base, total, warmup = rate.positive("learning_rate_base"), rate.positive("total_steps"), rate.value("warmup_steps")
    if warmup >= total:
        rate.refuse("warmup_steps", f"{warmup} must be below total_steps {total}")
        return {}
    schedule = _schedule("cosine", {"initial_learning_rate": base, "decay_steps": total - warmup, "offset": warmup})
    if warmup:
        linear = {"warmup_steps": warmup, "warmup_learning_rate": rate.value("warmup_learning_rate")}
        schedule["warmup"] = {"type": "linear", "linear": linear}
    else:
        rate.without_effect("warmup_learning_rate")
    return schedule


def _manual(rate: Section) -> dict[str, Any]:
    rate.only("warmup", False, "the rate changes in steps only")
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
    return _schedule("stepwise", {"boundaries": boundaries, "values": values})


def _schedule(kind: str, settings: dict[str, Any]) -> dict[str, Any]:
    return {"learning_rate": {"type": kind, kind: settings}}

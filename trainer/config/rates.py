"""learning_rate { … } of an optimizer to Model Garden's schedules; where these lack something, to one of `trainer.schedule`.

The formulas are those of the Object Detection API's utils/learning_schedules.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trainer.config.section import Section


@dataclass(frozen=True)
class Exponential:
    """burnin_rate up to burnin_steps, then base · factor ** ((step - burnin_steps) / decay_steps); never below floor."""

    base: float
    decay_steps: int
    factor: float
    staircase: bool
    burnin_steps: int
    burnin_rate: float
    floor: float


@dataclass(frozen=True)
class HeldCosine:
    """Linear from warmup_rate to base, base for hold_steps, then half a cosine to 0 at step total."""

    base: float
    total: int
    warmup_steps: int
    warmup_rate: float
    hold_steps: int


Schedule = Exponential | HeldCosine


@dataclass(frozen=True)
class Rates:
    """garden: learning_rate and warmup of Model Garden's OptimizationConfig. exact: what these cannot express."""

    garden: dict[str, Any]
    exact: Schedule | None = None


def read(section: Section) -> Rates:
    """The whole section."""
    kind, rate = section.choice("learning_rate", list(_READERS))
    return _READERS[kind](rate) if rate is not None else Rates({})


def _constant(rate: Section) -> Rates:
    return Rates(_schedule("constant", {"learning_rate": rate.positive("learning_rate")}))


def _exponential(rate: Section) -> Rates:
    exact = Exponential(
        base=rate.positive("initial_learning_rate"),
        decay_steps=rate.positive("decay_steps"),
        factor=rate.positive("decay_factor"),
        staircase=rate.value("staircase"),
        burnin_steps=rate.value("burnin_steps"),
        # 0 stands for the initial rate.
        burnin_rate=rate.value("burnin_learning_rate") or rate.value("initial_learning_rate"),
        floor=rate.value("min_learning_rate"),
    )
    settings = {
        "initial_learning_rate": exact.base,
        "decay_steps": exact.decay_steps,
        "decay_rate": exact.factor,
        "staircase": exact.staircase,
    }
    if exact.burnin_steps:
        settings["offset"] = exact.burnin_steps
    garden = _schedule("exponential", settings)
    if exact.burnin_steps:  # a line between two rates, level where they are the same
        garden["warmup"] = _linear(exact.burnin_steps, exact.burnin_rate)
    level = not exact.burnin_steps or exact.burnin_rate == exact.base
    return Rates(garden, None if level and not exact.floor else exact)


def _cosine(rate: Section) -> Rates:
    base, total = rate.positive("learning_rate_base"), rate.positive("total_steps")
    warmup, hold = rate.value("warmup_steps"), rate.value("hold_base_rate_steps")
    if warmup + hold >= total:
        held = " and hold_base_rate_steps" if hold else ""
        rate.without_effect("warmup_learning_rate")
        rate.refuse("warmup_steps", f"{warmup + hold}{held} must be below total_steps {total}")
        return Rates({})
    settings = {"initial_learning_rate": base, "decay_steps": total - warmup - hold, "offset": warmup + hold}
    garden = _schedule("cosine", settings)
    if warmup:
        garden["warmup"] = _linear(warmup, rate.value("warmup_learning_rate"))
    else:
        rate.without_effect("warmup_learning_rate")
    return Rates(garden, HeldCosine(base, total, warmup, rate.value("warmup_learning_rate"), hold) if hold else None)


def _manual(rate: Section) -> Rates:
    """Each rate holds from its step on; Model Garden's boundaries are the last steps before."""
    warmup = rate.value("warmup")
    starts: list[int] = []
    values: list[float] = [rate.positive("initial_learning_rate")]
    for step in rate.sections("schedule"):
        start = step.required("step")
        if starts and start <= starts[-1]:
            step.refuse("step", f"{start} must be above the step before it, {starts[-1]}")
        starts.append(start)
        values.append(step.positive("learning_rate"))
    if not starts:
        return Rates(_constant_from(values[0]))
    if starts[0] == 0:
        return Rates(_steps(starts[1:], values[1:]))
    if warmup:  # linearly from the initial rate to the first one of the schedule
        return Rates({**_steps(starts[1:], values[1:]), "warmup": _linear(starts[0], values[0])})
    return Rates(_steps(starts, values))


def _steps(starts: list[int], values: list[float]) -> dict[str, Any]:
    if not starts:
        return _constant_from(values[0])
    return _schedule("stepwise", {"boundaries": [start - 1 for start in starts], "values": values})


def _constant_from(rate: float) -> dict[str, Any]:
    return _schedule("constant", {"learning_rate": rate})


def _linear(steps: int, rate: float) -> dict[str, Any]:
    return {"type": "linear", "linear": {"warmup_steps": steps, "warmup_learning_rate": rate}}


def _schedule(kind: str, settings: dict[str, Any]) -> dict[str, Any]:
    return {"learning_rate": {"type": kind, kind: settings}}


_READERS = {
    "constant_learning_rate": _constant,
    "cosine_decay_learning_rate": _cosine,
    "exponential_decay_learning_rate": _exponential,
    "manual_step_learning_rate": _manual,
}

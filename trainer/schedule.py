"""Learning rates that Model Garden has no schedule for, as Keras ones (the formulas stand in trainer.config.rates)."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf
import tf_keras

from trainer.config.rates import Exponential, HeldCosine, Schedule


class Rate(tf_keras.optimizers.schedules.LearningRateSchedule):
    """The rate at a step, a number or a tensor."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule

    def __call__(self, step: Any) -> Any:
        step = tf.cast(step, tf.float32)
        if isinstance(self._schedule, Exponential):
            return _exponential(self._schedule, step)
        return _held_cosine(self._schedule, step)

    def get_config(self) -> dict[str, Any]:
        return {"schedule": self._schedule}


def _exponential(schedule: Exponential, step: Any) -> Any:
    periods = (step - schedule.burnin_steps) / schedule.decay_steps
    if schedule.staircase:
        periods = tf.floor(periods)
    decayed = schedule.base * tf.pow(schedule.factor, periods)
    rate = tf.where(step < schedule.burnin_steps, schedule.burnin_rate, decayed)
    return tf.maximum(rate, schedule.floor)


def _held_cosine(schedule: HeldCosine, step: Any) -> Any:
    began = schedule.warmup_steps + schedule.hold_steps
    part = tf.clip_by_value((step - began) / (schedule.total - began), 0.0, 1.0)
    rate = schedule.base * (1 + tf.cos(math.pi * part)) / 2
    if schedule.warmup_steps:
        slope = (schedule.base - schedule.warmup_rate) / schedule.warmup_steps
        rate = tf.where(step < schedule.warmup_steps, schedule.warmup_rate + slope * step, rate)
    return rate

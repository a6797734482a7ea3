"""Random changes of the training images' colours, as the Object Detection API's preprocessor.py makes them.

Model Garden's parsers know none of them: this stage stands behind them, on batches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
from official.vision.ops import preprocess_ops

from trainer.config.augmentation import Colour


def add(task: Any, colours: Sequence[Colour]) -> None:
    """Lets the task's training data (Model Garden's) have its images changed, each for itself and anew each time."""
    build_inputs = task.build_inputs

    def build_coloured(params: Any, *arguments: Any, **named: Any) -> Any:
        dataset = build_inputs(params, *arguments, **named)
        if not params.is_training:
            return dataset
        changed = dataset.map(
            lambda images, labels: (change_batch(images, colours), labels), num_parallel_calls=tf.data.AUTOTUNE
        )
        return changed.prefetch(params.prefetch_buffer_size or tf.data.AUTOTUNE)

    task.build_inputs = build_coloured


def change_batch(images: Any, colours: Sequence[Colour]) -> Any:
    """images: (batch, height, width, 3), normalized as Model Garden does, with zeros where they are padded."""
    mean, deviation = (tf.constant(values, images.dtype) for values in (preprocess_ops.MEAN_NORM, preprocess_ops.STDDEV_NORM))
    padding = tf.reduce_all(images == 0, axis=-1, keepdims=True)
    plain = tf.cast(tf.clip_by_value(images * deviation + mean, 0, 1), tf.float32)
    changed = tf.cast(tf.map_fn(lambda image: change(image, colours), plain), images.dtype)
    return tf.where(padding, images, (changed - mean) / deviation)


def change(image: Any, colours: Sequence[Colour]) -> Any:
    """image: (height, width, 3) float32 from 0 to 1; the same, with each of the changes after the other."""
    for colour in colours:
        image = tf.clip_by_value(_CHANGES[colour.kind](image, *colour.values), 0.0, 1.0)
    return image


def _gray(image: Any, probability: float) -> Any:
    gray = tf.image.grayscale_to_rgb(tf.image.rgb_to_grayscale(image))
    return tf.where(tf.random.uniform([]) < probability, gray, image)


def _saturation(image: Any, low: float, high: float) -> Any:
    return tf.image.adjust_saturation(image, tf.random.uniform([], low, high))


def _contrast(image: Any, low: float, high: float) -> Any:
    return tf.image.adjust_contrast(image, tf.random.uniform([], low, high))


def _pixels(image: Any, low: float, high: float) -> Any:
    return image * tf.random.uniform(tf.shape(image), low, high)


def _brightness(image: Any, most: float) -> Any:
    return image + tf.random.uniform([], -most, most)


def _hue(image: Any, most: float) -> Any:
    return tf.image.adjust_hue(image, tf.random.uniform([], -most, most))


_CHANGES: dict[str, Callable[..., Any]] = {
    "brightness": _brightness,
    "contrast": _contrast,
    "gamma": tf.image.adjust_gamma,
    "gray": _gray,
    "hue": _hue,
    "pixels": _pixels,
    "saturation": _saturation,
}

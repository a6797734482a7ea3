"""Detections of a trained checkpoint on the held-out records."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image

from trainer import garden
from trainer.config.experiment import Experiment
from trainer.data import records, tfrecord
from trainer.errors import InputError
from trainer.evaluation.coco import Annotated
from trainer.training import start

_FILENAME, _CROWD, _DIFFICULT = "image/filename", "image/object/is_crowd", "image/object/difficult"
_AREA = "image/object/area"


@dataclass(frozen=True)
class HeldOut:
    """A held-out image as its record has it: encoded, for thousands of images are kept, and few are looked at."""

    filename: str
    encoded: bytes
    truth: Annotated

    @property
    def image(self) -> NDArray[np.uint8]:
        """(height, width, 3)"""
        with Image.open(io.BytesIO(self.encoded)) as file:
            return np.asarray(file.convert("RGB"))


def read_images(files: Sequence[str], limit: int | None) -> Iterator[HeldOut]:
    """The images in the files' order, the first `limit` of them. Raises InputError naming file and record."""
    count = 0
    for path in files:
        for number, data in enumerate(tfrecord.read(path), start=1):
            if limit is not None and count >= limit:
                return
            yield _held_out(data, f"{path}: record {number}", count)
            count += 1


def _held_out(data: bytes, place: str, index: int) -> HeldOut:
    features = records.parse(data, place)
    encoded = records.values(features, records.IMAGE, "bytes", place)[0]
    with Image.open(io.BytesIO(encoded)) as file:
        width, height = file.size
    sides = [
        np.asarray(records.values(features, records.BOX[side], "float", place)) for side in ("ymin", "xmin", "ymax", "xmax")
    ]
    boxes = np.stack(sides, axis=-1).reshape(-1, 4) * [height, width, height, width]
    classes = np.asarray(records.values(features, records.LABEL, "int64", place), np.int64)
    flags = [np.asarray(records.values(features, key, "int64", place), bool) for key in (_CROWD, _DIFFICULT)]
    crowd, difficult = (flag if flag.size == classes.size else None for flag in flags)
    areas = np.asarray(records.values(features, _AREA, "float", place), float)
    names = records.values(features, _FILENAME, "bytes", place)
    filename = names[0].decode(errors="replace") if names else f"image {index + 1}"
    truth = Annotated(
        boxes, classes, crowd=crowd, difficult=difficult, areas=areas if areas.size and areas.size == classes.size else None
    )
    return HeldOut(filename, encoded, truth)


class Detector:
    """A model with a checkpoint's weights."""

    def __init__(self, task: Any, experiment: Experiment, checkpoint: str | None = None) -> None:
        """task: of the experiment. checkpoint: to load at once; another one may be loaded later."""
        self._task = task
        self._model = task.build_model()
        # With an inference's variables all made, a checkpoint of another model is noticed.
        if not self._model.built:
            self._model(tf.zeros([1, *task.task_config.model.input_size]), training=True)
        self._saved = {"model": self._model}
        self._averaging = None
        if garden.averages(experiment):
            start.freeze(self._model, experiment.frozen)
            self._averaging = self._saved["optimizer"] = garden.build_optimizer(experiment, self._model)
        if checkpoint:
            self.load(checkpoint)

    def load(self, checkpoint: str) -> None:
        """Takes a checkpoint's weights, or their averages where the configuration says so.

        Raises InputError when it is not of this model, or not there.
        """
        try:
            status = tf.train.Checkpoint(**self._saved).restore(checkpoint)
            status.assert_existing_objects_matched()
        except (AssertionError, ValueError) as error:
            raise InputError(f"{checkpoint}: is of another model than the pipeline configuration describes") from error
        except tf.errors.OpError as error:
            raise InputError(f"{checkpoint}: cannot be read: {str(error.message).splitlines()[0][:200]}") from error
        status.expect_partial()
        if self._averaging:
            garden.take_averages(self._averaging, self._model)

    @property
    def model(self) -> Any:
        """With the checkpoint's weights."""
        return self._model

    def detect(self, files: Sequence[str], limit: int | None) -> Iterator[Annotated]:
        """Detections on the files' images, in the order of `read_images`, boxes in pixels of the original images."""
        data = self._task.task_config.validation_data
        data.input_path = list(files)
        # One file after the other: the images' order is the records'.
        data.cycle_length, data.deterministic = 1, True
        count = 0
        infer = tf.function(self._infer)
        for images, labels in self._task.build_inputs(data):
            outputs = {
                name: value.numpy() for name, value in infer(images, labels["anchor_boxes"], labels["image_info"]).items()
            }
            for i in range(len(outputs["num_detections"])):
                if limit is not None and count >= limit:
                    return
                number = int(outputs["num_detections"][i])
                yield Annotated(
                    outputs["detection_boxes"][i, :number],
                    outputs["detection_classes"][i, :number],
                    outputs["detection_scores"][i, :number],
                )
                count += 1

    def _infer(self, images: Any, anchor_boxes: Any, image_info: Any) -> dict[str, Any]:
        # image_info (batch, 4, 2): original size, size after scaling, scale, offset (official/vision/ops/preprocess_ops.py).
        found = self._model(images, anchor_boxes=anchor_boxes, image_shape=image_info[:, 1, :], training=False)
        boxes = found["detection_boxes"] / tf.tile(image_info[:, 2:3, :], [1, 1, 2])
        return {
            "detection_boxes": boxes,
            "detection_classes": found["detection_classes"],
            "detection_scores": found["detection_scores"],
            "num_detections": found["num_detections"],
        }

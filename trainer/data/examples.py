"""tf.train.Example with the Object Detection API's keys (object_detection/g3doc/using_your_own_dataset.md)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from trainer.protos import example_pb2


def build(
    encoded: bytes,
    form: str,
    size: tuple[int, int],
    filename: str,
    number: int,
    boxes: Sequence[tuple[float, float, float, float]],
    labels: Sequence[int],
    names: Sequence[str],
) -> example_pb2.Example:
    """The example of one image.

    encoded, form: the image file's bytes, and "jpeg" or "png". size: height and width in pixels.
    number: becomes image/source_id, which Model Garden reads as a number, unique among the images evaluated together.
    boxes: (ymin, xmin, ymax, xmax) in pixels from the image's corner; labels, names: of each box's class.
    """
    example = example_pb2.Example()
    feature = example.features.feature
    height, width = size
    feature["image/height"].int64_list.value.append(height)
    feature["image/width"].int64_list.value.append(width)
    feature["image/filename"].bytes_list.value.append(filename.encode())
    feature["image/source_id"].bytes_list.value.append(str(number).encode())
    feature["image/key/sha256"].bytes_list.value.append(hashlib.sha256(encoded).hexdigest().encode())
    feature["image/encoded"].bytes_list.value.append(encoded)
    feature["image/format"].bytes_list.value.append(form.encode())
    for position, (side, extent) in enumerate((("ymin", height), ("xmin", width), ("ymax", height), ("xmax", width))):
        feature[f"image/object/bbox/{side}"].float_list.value.extend(box[position] / extent for box in boxes)
    feature["image/object/class/text"].bytes_list.value.extend(name.encode() for name in names)
    feature["image/object/class/label"].int64_list.value.extend(labels)
    return example

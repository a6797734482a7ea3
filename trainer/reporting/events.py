"""Scalars from TensorBoard's event files, read without TensorFlow.

TensorBoard's own loader would import TensorFlow (seconds) where that is installed, or compute checksums in Python where it
is not; its protocol buffers come alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from google.protobuf.message import DecodeError
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.util import tensor_util

from trainer.data import tfrecord
from trainer.errors import InputError

Series = list[tuple[int, float]]
"""(step, value), steps strictly rising."""


def scalars(folder: str) -> dict[str, Series]:
    """Every scalar below a local folder by tag, "SUBFOLDER/tag" in a subfolder; empty where there is none.

    A file may still be written to. Where a later file goes on from an earlier step (training resumed from a checkpoint),
    what the earlier one has from there on is dropped: it was done again.
    Raises InputError naming the file when it is no event file or corrupt.
    """
    series: dict[str, Series] = {}
    for path in sorted(Path(folder).rglob("*.tfevents.*"), key=lambda path: (path.name, str(path))):
        found: dict[str, dict[int, float]] = {}
        subfolder = path.parent.relative_to(folder)
        for tag, step, value in _values(path):
            found.setdefault((subfolder / tag).as_posix(), {})[step] = value
        for tag, points in found.items():
            first = min(points)
            series[tag] = [point for point in series.get(tag, []) if point[0] < first] + sorted(points.items())
    return series


def find(series: Mapping[str, Series], *names: str) -> Series:
    """The series of the first of the names that a tag equals, or equals after its last "/", or ends in; else empty."""
    for name in names:
        tags = [tag for tag in series if tag == name] or [tag for tag in series if tag.rpartition("/")[2] == name]
        if tags:
            return series[min(tags, key=len)]
    for name in names:
        tags = [tag for tag in series if tag.endswith(name)]
        if tags:
            return series[min(tags, key=len)]
    return []


def _values(path: Path) -> Iterator[tuple[str, int, float]]:
    for number, data in enumerate(tfrecord.read(str(path), unfinished=True), start=1):
        try:
            event = event_pb2.Event.FromString(data)
        except DecodeError as error:
            raise InputError(f"{path}: record {number} is not a TensorBoard event; remove the file") from error
        for value in event.summary.value:
            scalar = _scalar(value)
            if scalar is not None and math.isfinite(scalar):
                yield value.tag, event.step, scalar


def _scalar(value: summary_pb2.Summary.Value) -> float | None:
    """The number in a summary of TensorFlow 1 (simple_value) or 2 (a tensor without dimensions); None for other summaries."""
    kind = value.WhichOneof("value")
    if kind == "simple_value":
        return value.simple_value
    if kind != "tensor" or value.tensor.tensor_shape.dim or value.metadata.plugin_data.plugin_name not in ("", "scalars"):
        return None
    try:
        return float(tensor_util.make_ndarray(value.tensor))
    except (TypeError, ValueError):  # a text, or an empty tensor
        return None

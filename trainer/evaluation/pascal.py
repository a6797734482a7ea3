"""PASCAL VOC's average precision, by the definition of its development kit (VOCcode/VOCevaldet.m and VOCap.m, 2007 and 2012).

A detection takes the object of its class that it overlaps most, whether or not that is taken already; it is right if the
overlap is at least 0.5 and the object was still free, wrong if not, and does not count at all if the object is marked as
difficult. The kit counts both ends of a box as part of it (width xmax − xmin + 1); boxes here are the edges themselves, as the
converter of data sets writes them (xmin − 1 to xmax), which is the same width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.coco import Annotated

IOU = 0.5
AREA, ELEVEN = "VOC10", "VOC07"
"""Names of the two conventions' means: the area below the curve (2010 and later), and the mean at eleven recalls (2007)."""


@dataclass(frozen=True)
class Scores:
    """mean: by AREA and ELEVEN, over the classes that have objects. per_class: the same of each. None: no such object."""

    mean: dict[str, float | None]
    per_class: dict[str, dict[str, float | None]]


def evaluate(truth: Sequence[Annotated], detected: Sequence[Annotated], names: Mapping[int, str]) -> Scores:
    """Scores detections, image by image in the same order."""
    per_class: dict[str, dict[str, float | None]] = {AREA: {}, ELEVEN: {}}
    for number, name in names.items():
        curve = precision_recall(truth, detected, number)
        per_class[AREA][name] = area(*curve) if curve else None
        per_class[ELEVEN][name] = eleven_points(*curve) if curve else None
    return Scores({convention: _mean(values) for convention, values in per_class.items()}, per_class)


def precision_recall(
    truth: Sequence[Annotated], detected: Sequence[Annotated], number: int
) -> tuple[NDArray[np.floating], NDArray[np.floating]] | None:
    """Precision and recall (n) of a class after each of its detections that count, best score first.

    None where no object of the class counts.
    """
    right, scores = [], []
    objects = 0
    for there, found in zip(truth, detected, strict=True):
        chosen = np.asarray(there.classes) == number
        boxes = np.asarray(there.boxes, float).reshape(-1, 4)[chosen]
        difficult = np.zeros(len(boxes), bool) if there.difficult is None else np.asarray(there.difficult, bool)[chosen]
        objects += int((~difficult).sum())
        mine = np.asarray(found.classes) == number
        assert found.scores is not None
        of_image = np.asarray(found.scores, float)[mine]
        right.append(_judge(np.asarray(found.boxes, float).reshape(-1, 4)[mine], of_image, boxes, difficult))
        scores.append(of_image)
    if not objects:
        return None
    every, score = np.concatenate(right or [np.empty(0)]), np.concatenate(scores or [np.empty(0)])
    ranked = every[np.argsort(-score, kind="stable")]
    ranked = ranked[~np.isnan(ranked)]
    hits = np.cumsum(ranked)
    return hits / np.arange(1, len(hits) + 1), hits / objects


def _judge(
    boxes: NDArray[np.floating], scores: NDArray[np.floating], objects: NDArray[np.floating], difficult: NDArray[np.bool_]
) -> NDArray[np.floating]:
    """Of each detection in an image: 1 right, 0 wrong, NaN does not count. The whole's order is each image's, too."""
    verdict = np.zeros(len(boxes))
    if not len(objects) or not len(boxes):
        return verdict
    overlaps = _iou(boxes, objects)
    best = overlaps.argmax(axis=1)  # of equals the first, as in the kit
    enough = overlaps[np.arange(len(boxes)), best] >= IOU
    taken = np.zeros(len(objects), bool)
    for index in np.argsort(-scores, kind="stable"):
        if not enough[index]:
            continue
        if difficult[best[index]]:
            verdict[index] = np.nan
        elif not taken[best[index]]:
            verdict[index] = 1
            taken[best[index]] = True
    return verdict


def _iou(boxes: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.floating]:
    """(n, m) of boxes (n, 4) and others (m, 4)."""
    low, high = np.maximum(boxes[:, None, :2], others[:, :2]), np.minimum(boxes[:, None, 2:], others[:, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=2)
    areas = [np.prod(b[:, 2:] - b[:, :2], axis=1) for b in (boxes, others)]
    union = areas[0][:, None] + areas[1] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def area(precision: NDArray[np.floating], recall: NDArray[np.floating]) -> float:
    """The area below the curve, its precision made to fall only (VOC 2010 and later)."""
    steps = np.diff(recall, prepend=0.0)
    return float(np.sum(steps * np.maximum.accumulate(precision[::-1])[::-1]))


def eleven_points(precision: NDArray[np.floating], recall: NDArray[np.floating]) -> float:
    """The mean of the highest precision at a recall of at least 0, 0.1, … 1 (VOC 2007)."""
    # As the kit writes its limits, 0:0.1:1: whole steps, so that 3 × 0.1 is 0.3 and no more.
    limits = np.arange(11) / 10
    return float(np.mean([precision[recall >= limit].max(initial=0.0) for limit in limits]))


def _mean(values: Mapping[str, float | None]) -> float | None:
    known = [value for value in values.values() if value is not None]
    return float(np.mean(known)) if known else None

"""COCO's detection metrics over a whole data set, with pycocotools (https://cocodataset.org/#detection-eval)."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# In the order of COCOeval.stats.
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


@dataclass(frozen=True)
class Annotated:
    """One image's objects, true or detected: boxes (n, 4) as ymin, xmin, ymax, xmax in pixels; classes (n)."""

    boxes: NDArray[np.floating[Any]]
    classes: NDArray[np.integer[Any]]
    scores: NDArray[np.floating[Any]] | None = None  # (n), of detections
    crowd: NDArray[np.bool_] | None = None  # (n), of true objects: groups, which are not counted
    difficult: NDArray[np.bool_] | None = None  # (n), of true objects: not counted by PASCAL VOC
    areas: NDArray[np.floating[Any]] | None = None  # (n), of true objects: square pixels of COCO's masks; None: the boxes'


@dataclass(frozen=True)
class Scores:
    """metrics: by COCO's names; per_class: AP by class name. None: there is no such object, so there is no score."""

    metrics: dict[str, float | None]
    per_class: dict[str, float | None]


def evaluate(truth: Sequence[Annotated], detected: Sequence[Annotated], names: Mapping[int, str]) -> Scores:
    """Scores detections, image by image in the same order. Every image counts, also one without a detection."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # it reports on itself
        target = COCO()
        target.dataset = {
            "info": {},
            "images": [{"id": index} for index in range(1, len(truth) + 1)],
            "categories": [{"id": number, "name": name} for number, name in names.items()],
            "annotations": [{"id": i + 1, **item} for i, item in enumerate(_annotations(truth))],
        }
        target.createIndex()
        found = _annotations(detected)
        result = COCO()
        result.dataset = {**target.dataset, "annotations": [{"id": i + 1, **item} for i, item in enumerate(found)]}
        result.createIndex()
        evaluation = COCOeval(target, result, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    # [IoU threshold, recall, class, area, detections per image]
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    per_class = {names[number]: _mean(precision[:, :, i]) for i, number in enumerate(evaluation.params.catIds)}
    stats = {name: float(value) if value >= 0 else None for name, value in zip(METRICS, evaluation.stats, strict=True)}
    return Scores(stats, per_class)


def _annotations(images: Sequence[Annotated]) -> list[dict[str, Any]]:
    found = []
    for index, image in enumerate(images, start=1):
        for i, (ymin, xmin, ymax, xmax) in enumerate(np.asarray(image.boxes, float).tolist()):
            width, height = xmax - xmin, ymax - ymin
            item = {
                "image_id": index,
                "category_id": int(image.classes[i]),
                "bbox": [xmin, ymin, width, height],
                "area": float(image.areas[i]) if image.areas is not None else width * height,
                "iscrowd": int(image.crowd[i]) if image.crowd is not None else 0,
            }
            if image.scores is not None:
                item["score"] = float(image.scores[i])
            found.append(item)
    return found


def _mean(precision: NDArray[np.floating[Any]]) -> float | None:
    known = precision[precision > -1]  # -1: no such object
    return float(known.mean()) if known.size else None

"""What detections tell beyond their scores: curves of precision and recall, confusions, the best and the worst images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer import drawing
from trainer.evaluation import pascal
from trainer.evaluation.coco import Annotated

NOTHING = "nothing"
"""The last row and column of the confusions: no object there, or nothing detected."""
_POINTS = 200  # of a curve that are kept


@dataclass(frozen=True)
class Judged:
    """One image by its detections of at least some score. share: right of right, wrong and missed together."""

    index: int
    right: int
    wrong: int
    missed: int

    @property
    def share(self) -> float:
        return self.right / max(1, self.right + self.wrong + self.missed)


def analyse(
    truth: Sequence[Annotated], detected: Sequence[Annotated], names: Mapping[int, str], min_score: float
) -> dict[str, Any]:
    """As JSON takes it: {"min_score", "precision_recall": {class: [[recall …], [precision …]]}, "confusion": …}.

    The curves are PASCAL VOC's, at an IoU of 0.5; a class without objects has none.
    """
    curves = {}
    for number, name in names.items():
        found = pascal.precision_recall(truth, detected, number)
        if found:
            precision, recall = found
            kept = np.unique(np.linspace(0, max(len(recall) - 1, 0), min(_POINTS, len(recall))).astype(int))
            curves[name] = [[round(float(values[i]), 4) for i in kept] for values in (recall, precision)]
    return {
        "min_score": min_score,
        "precision_recall": curves,
        "confusion": {"names": [*names.values(), NOTHING], "matrix": confusion(truth, detected, [*names], min_score).tolist()},
    }


def confusion(
    truth: Sequence[Annotated], detected: Sequence[Annotated], numbers: Sequence[int], min_score: float
) -> NDArray[np.integer]:
    """(n + 1, n + 1): objects of a class (row) that were detected as a class (column), the last being NOTHING.

    Whatever the classes, an object and a detection that overlap most are a pair, from an IoU of 0.5 on, then the next.
    What is crowd or difficult does not count (see drawing.match), nor a detection of it.
    """
    place = {number: index for index, number in enumerate(numbers)}
    nothing = len(numbers)
    matrix = np.zeros((nothing + 1, nothing + 1), int)
    for there, found in zip(truth, detected, strict=True):
        boxes, classes = _kept(found, min_score)
        objects = np.asarray(there.boxes, float).reshape(-1, 4)
        overlaps = np.array([drawing.iou(box, boxes) for box in objects]).reshape(len(objects), len(boxes))
        crowd, difficult = (drawing.flags(marks, len(objects)) for marks in (there.crowd, there.difficult))
        free_objects, free_boxes = set(np.flatnonzero(~crowd).tolist()), set(range(len(boxes)))
        for flat in np.argsort(-overlaps, axis=None, kind="stable"):
            o, d = divmod(int(flat), len(boxes))
            if overlaps[o, d] < drawing.MATCH_IOU:
                break
            if o in free_objects and d in free_boxes:
                free_boxes.remove(d)
                if not difficult[o]:
                    free_objects.remove(o)
                    matrix[place.get(int(there.classes[o]), nothing), place.get(int(classes[d]), nothing)] += 1
        for o in free_objects:
            if not difficult[o]:
                matrix[place.get(int(there.classes[o]), nothing), nothing] += 1
        for d in free_boxes:
            if not drawing.within(boxes[d], objects[crowd & (np.asarray(there.classes) == classes[d])]):
                matrix[nothing, place.get(int(classes[d]), nothing)] += 1
    return matrix


def judge(truth: Sequence[Annotated], detected: Sequence[Annotated], min_score: float) -> list[Judged]:
    """Each image that has an object or a detection that counts."""
    result = []
    for index, (there, found) in enumerate(zip(truth, detected, strict=True)):
        boxes, classes = _kept(found, min_score)
        scores = _scores(found)
        objects = np.asarray(there.boxes), np.asarray(there.classes), there.crowd, there.difficult
        matched = drawing.match(boxes, classes, scores[scores >= min_score], *objects)
        judged = Judged(index, int(matched.right.sum()), int(matched.wrong.sum()), int(matched.missed.sum()))
        if judged.right or judged.wrong or judged.missed:
            result.append(judged)
    return result


def extremes(judged: Sequence[Judged], count: int) -> tuple[list[Judged], list[Judged]]:
    """The best (of equals those with most found first) and the worst (most mistakes first); none is both."""
    ranked = sorted(judged, key=lambda image: (-image.share, -image.right, image.wrong + image.missed, image.index))
    half = min(count, len(ranked) // 2)
    return ranked[:half], ranked[::-1][:half]


def _kept(found: Annotated, min_score: float) -> tuple[NDArray[np.floating], NDArray[np.integer]]:
    keep = _scores(found) >= min_score
    return np.asarray(found.boxes, float).reshape(-1, 4)[keep], np.asarray(found.classes, int).reshape(-1)[keep]


def _scores(found: Annotated) -> NDArray[np.floating]:
    assert found.scores is not None
    return np.asarray(found.scores, float).reshape(-1)

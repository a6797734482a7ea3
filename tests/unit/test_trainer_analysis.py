"""What an evaluation tells beyond its scores, on images small enough to reckon by hand."""

from __future__ import annotations

import numpy as np

from trainer.evaluation import analysis
from trainer.evaluation.coco import Annotated
from trainer.reporting import plots

NAMES = {1: "dog", 2: "cat", 5: "bird"}
A, B, C, D = [0, 0, 10, 10], [0, 20, 10, 30], [20, 0, 30, 10], [20, 20, 30, 30]


def there(*objects: tuple[list[int], int], difficult: tuple[bool, ...] = ()) -> Annotated:
    boxes = np.array([box for box, _ in objects], float).reshape(-1, 4)
    return Annotated(boxes, np.array([n for _, n in objects], int), difficult=np.array(difficult) if difficult else None)


def found(*detections: tuple[list[int], int, float]) -> Annotated:
    boxes = np.array([box for box, _, _ in detections], float).reshape(-1, 4)
    return Annotated(boxes, np.array([n for _, n, _ in detections], int), np.array([s for _, _, s in detections], float))


TRUTH = [there((A, 1), (B, 1), (C, 2)), there((A, 5)), there(), there((A, 1), (B, 2)), there((A, 1))]
DETECTED = [
    found((A, 1, 0.9), (B, 2, 0.8), (D, 1, 0.7), (C, 2, 0.1)),  # right, a cat for a dog, nothing there, too unsure
    found(),
    found(),
    found((A, 1, 0.6), (B, 2, 0.5)),
    found(([0, 0, 10, 9], 1, 0.9), (A, 1, 0.4)),  # twice the same: one is too many
]


def test_confusions_pair_each_object_with_the_detection_on_it() -> None:
    result = analysis.analyse(TRUTH, DETECTED, NAMES, 0.3)
    assert result["confusion"] == {
        "names": ["dog", "cat", "bird", "nothing"],
        "matrix": [[3, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 1], [2, 0, 0, 0]],
    }
    mistakes = plots.confusions(result["confusion"]["names"], result["confusion"]["matrix"], 2)
    assert mistakes == [("nothing", "dog", 2), ("dog", "cat", 1)]


def test_crowds_and_difficult_objects_are_in_neither_confusions_nor_judgements() -> None:
    group, inside, half = [0, 0, 40, 60], [30, 40, 38, 58], [30, 50, 60, 60]
    objects = there((A, 1), (B, 2), (group, 5), (D, 1), difficult=(True, False, False, True))
    crowd = Annotated(objects.boxes, objects.classes, crowd=np.array([False, False, True, False]), difficult=objects.difficult)
    # Of a difficult one twice; an object; two in the crowd, one of another class, one that is there by less than a half.
    seen = found((A, 1, 0.9), (A, 1, 0.8), (B, 2, 0.9), (inside, 5, 0.9), (C, 5, 0.9), (inside, 1, 0.9), (half, 5, 0.9))
    result = analysis.analyse([crowd], [seen], NAMES, 0.3)
    assert result["confusion"]["matrix"] == [[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 1, 0]]
    assert analysis.judge([crowd], [seen], 0.3) == [analysis.Judged(0, 1, 2, 0)]
    only = there((A, 1), difficult=(True,))
    assert analysis.judge([only], [found((A, 1, 0.9))], 0.3) == []  # nothing there that counts: neither best nor worst


def test_curves_are_those_of_the_classes_that_are_there() -> None:
    curves = analysis.analyse(TRUTH, DETECTED, NAMES, 0.3)["precision_recall"]
    # Dogs by score: 0.9 right, 0.9 right, 0.7 wrong, 0.6 right, 0.4 wrong; four are there.
    assert curves["dog"] == [[0.25, 0.5, 0.5, 0.75, 0.75], [1.0, 1.0, 0.6667, 0.75, 0.6]]
    assert curves["cat"] == [[0.0, 0.5, 1.0], [0.0, 0.5, 0.6667]]
    assert curves["bird"] == [[], []]
    assert "dog" not in analysis.analyse([there()], [found((A, 1, 0.9))], NAMES, 0.3)["precision_recall"]
    many = [found(*((A, 1, 1 / rank) for rank in range(1, 1000)))]
    assert len(analysis.analyse([there((A, 1))], many, NAMES, 0.0)["precision_recall"]["dog"][0]) == 200


def test_the_best_and_the_worst_images() -> None:
    judged = analysis.judge(TRUTH, DETECTED, 0.3)
    assert [(j.index, j.right, j.wrong, j.missed) for j in judged] == [(0, 1, 2, 2), (1, 0, 0, 1), (3, 2, 0, 0), (4, 1, 1, 0)]
    best, worst = analysis.extremes(judged, 2)
    assert [image.index for image in best] == [3, 4] and [image.index for image in worst] == [1, 0]
    assert analysis.extremes(judged[:1], 2) == ([], [])

from __future__ import annotations

import numpy as np
import pytest

from trainer.evaluation.coco import Annotated, evaluate

NAMES = {1: "cat", 2: "dog"}


def truth(*objects: tuple[int, float]) -> Annotated:
    """Squares of side 40, side by side from the given x on."""
    boxes = np.asarray([[0, x, 40, x + 40] for _, x in objects], float).reshape(-1, 4)
    return Annotated(boxes, np.asarray([number for number, _ in objects], int))


def found(*objects: tuple[int, float, float]) -> Annotated:
    """The same with a score each."""
    plain = truth(*((number, x) for number, x, _ in objects))
    return Annotated(plain.boxes, plain.classes, np.asarray([score for *_, score in objects], float))


def test_perfect_detections_score_one_and_absent_classes_nothing() -> None:
    scores = evaluate([truth((1, 0), (1, 50))], [found((1, 0, 0.9), (1, 50, 0.8))], NAMES)
    assert scores.metrics["AP"] == scores.metrics["AP50"] == scores.metrics["AR100"] == pytest.approx(1)
    assert scores.metrics["APl"] is None  # no object is larger than 96 × 96
    assert scores.per_class == {"cat": pytest.approx(1), "dog": None}


def test_an_image_without_detections_counts() -> None:
    scores = evaluate([truth((1, 0)), truth((1, 0))], [found((1, 0, 0.9)), found()], NAMES)
    assert scores.metrics["AP50"] == pytest.approx(0.5, abs=0.01)  # precision 1 up to a recall of a half, at 101 points


def test_nothing_detected_at_all_scores_zero() -> None:
    assert evaluate([truth((1, 0), (2, 50))], [found()], NAMES).metrics["AP"] == 0


def test_a_shifted_box_is_right_at_low_overlap_only() -> None:
    scores = evaluate([truth((2, 0))], [found((2, 10, 0.9))], NAMES)  # overlap 30 / 50
    assert scores.metrics["AP50"] == pytest.approx(1)
    assert scores.metrics["AP75"] == 0
    assert scores.metrics["AP"] == pytest.approx(0.3)  # thresholds 0.5, 0.55 and 0.6 of ten


def test_the_wrong_class_is_wrong() -> None:
    assert evaluate([truth((1, 0))], [found((2, 0, 0.9))], NAMES).metrics["AP50"] == 0


def test_a_crowd_is_not_counted() -> None:
    group = truth((1, 0), (1, 50))
    image = Annotated(group.boxes, group.classes, crowd=np.asarray([False, True]))
    scores = evaluate([image], [found((1, 0, 0.9))], NAMES)
    assert scores.metrics["AP50"] == pytest.approx(1)


def test_small_and_large_are_measured_by_the_masks_area() -> None:
    plain = truth((1, 0))
    image = Annotated(plain.boxes, plain.classes, areas=np.asarray([30.0 * 30]))  # of a box of 40 × 40
    metrics = evaluate([image], [found((1, 0, 0.9))], NAMES).metrics
    assert metrics["APs"] == pytest.approx(1) and metrics["APm"] is None
    assert evaluate([plain], [found((1, 0, 0.9))], NAMES).metrics["APs"] is None

"""The sheet of detections: what counts as right, and that it is drawn."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainer import drawing

NAMES = {1: "cat", 2: "dog"}


def item(boxes: list, classes: list, scores: list, truth_boxes: list, truth_classes: list, shape: tuple = (40, 60)) -> dict:
    return {
        "image": np.full((*shape, 3), 90, np.uint8),
        "filename": "one.jpg",
        "boxes": np.array(boxes, float).reshape(-1, 4),
        "classes": np.array(classes, int),
        "scores": np.array(scores, float),
        "truth_boxes": np.array(truth_boxes, float).reshape(-1, 4),
        "truth_classes": np.array(truth_classes, int),
    }


def matched(one: dict) -> tuple[list[bool], list[bool]]:
    result = drawing.match(*(one[key] for key in ("boxes", "classes", "scores", "truth_boxes", "truth_classes")))
    assert (result.wrong == ~result.right).all() and (result.missed == ~result.found).all()
    return result.right.tolist(), result.found.tolist()


def test_iou() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 5, 10, 15], [20, 20, 30, 30], [0, 0, 0, 0]], float)
    assert drawing.iou(boxes[0], boxes).tolist() == pytest.approx([1, 1 / 3, 0, 0])
    assert drawing.iou(boxes[3], boxes[3:]).tolist() == [0]


def test_each_object_is_found_once_by_the_surest_detection_of_its_class() -> None:
    square, near, far = [0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]
    assert matched(item([near, square], [1, 1], [0.5, 0.9], [square], [1])) == ([False, True], [True])
    assert matched(item([square], [2], [0.9], [square], [1])) == ([False], [False])
    assert matched(item([far], [1], [0.9], [square], [1])) == ([False], [False])
    assert matched(item([square, near], [1, 1], [0.9, 0.5], [near, square], [1, 1])) == ([True, True], [True, True])
    assert matched(item([square], [1], [0.9], [], [])) == ([False], [])
    assert matched(item([], [], [], [square], [1])) == ([], [False])


def test_neither_crowds_nor_difficult_objects_count_nor_what_is_detected_of_them() -> None:
    square, other, group = [0, 0, 10, 10], [0, 20, 10, 30], [20, 0, 40, 60]
    inside, astride, far = [22, 5, 30, 12], [10, 0, 23, 10], [50, 50, 60, 60]
    truth = np.array([square, other, group, square], float), np.array([1, 1, 1, 2])
    found = [other, other, inside, astride, far, square, inside], [1, 1, 1, 1, 1, 1, 2]
    boxes, classes = np.array(found[0], float), np.array(found[1])
    scores = np.linspace(0.9, 0.3, len(boxes))
    crowd, difficult = np.array([False, False, True, False]), np.array([True, False, False, True])
    result = drawing.match(boxes, classes, scores, *truth, crowd, difficult)
    # The second of two on one object, what lies in a crowd by less than a half, nothing there, another class than the crowd's.
    assert np.flatnonzero(result.right).tolist() == [0] and np.flatnonzero(result.wrong).tolist() == [1, 3, 4, 6]
    assert result.found.tolist() == [False, True, False, False] and not result.missed.any()
    # Nor on the sheet: no box is wrong, no object missed.
    one = item([inside, square], [1, 1], [0.9, 0.8], [group, square, other], [1, 1, 1])
    marks = {"truth_crowd": np.array([True, False, False]), "truth_difficult": np.array([False, True, True])}
    empty = item([], [], [], [], [])
    sheets = [np.array(Image.open(io.BytesIO(drawing.render([each], NAMES)))) for each in (one | marks, empty, one)]
    wrong = tuple(bytes.fromhex(drawing.WRONG[1:]))
    counted, legend, all_counted = (int((sheet[..., :3] == wrong).all(axis=-1).sum()) for sheet in sheets)
    assert counted == legend < all_counted


def test_the_sheet_shows_the_image_the_boxes_and_leaves_no_half_file(tmp_path: Path) -> None:
    box = [10, 10, 30, 40]
    path = tmp_path / "new" / "sheet.png"
    drawing.detection_sheet([item([box], [1], [0.9], [box], [1])], NAMES, str(path))
    assert [file.name for file in path.parent.iterdir()] == ["sheet.png"]
    pixels = np.array(Image.open(path).convert("RGB")).reshape(-1, 3)
    for colour in (drawing.colour(1), "#5a5a5a"):  # the box's colour, the image's grey
        wanted = tuple(bytes.fromhex(colour[1:]))
        assert (pixels == wanted).all(axis=1).sum() > 200


def test_low_scores_are_not_drawn() -> None:
    box = [10, 10, 30, 40]
    nothing = drawing.render([item([], [], [], [box], [1])], NAMES)
    assert drawing.render([item([box], [1], [0.29], [box], [1])], NAMES) == nothing
    assert drawing.render([item([box], [1], [0.29], [box], [1])], NAMES, min_score=0.2) != nothing


@pytest.mark.parametrize("count", [1, 3, 4, 5, 9])
def test_any_number_of_images_any_shape_and_classes_without_name(count: int) -> None:
    one = item([[0, 0, 200, 50]], [77], [1.0], [[0, 0, 1, 1]], [1], shape=(200, 50))
    assert drawing.render([one] * count, {}).startswith(b"\x89PNG")
    assert drawing.render([one] * count, dict.fromkeys(range(1, 21), "a long class name")).startswith(b"\x89PNG")


def test_lists_as_json_gives_them_are_taken_too() -> None:
    one = {
        **item([], [], [], [], []),
        "boxes": [[1, 1, 5, 5]],
        "classes": [1],
        "scores": [0.5],
        "truth_boxes": [],
        "truth_classes": [],
    }
    assert drawing.render([one], NAMES).startswith(b"\x89PNG")

"""Sheets of images: what was detected drawn over what is there, or boxes alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer import files
from trainer.sheet import TRUTH, WRONG, Sheet, caption, colour, label, name_of, outline, show

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MIN_SCORE = 0.3  # detections below are not drawn: they would hide the image
MATCH_IOU = 0.5  # from here on a detection of the same class counts as right, as for AP50


def detection_sheet(
    items: Sequence[Mapping[str, Any]], names: Mapping[int, str], path: str, *, min_score: float = MIN_SCORE
) -> None:
    """Writes the sheet as PNG. At least one item.

    items: for each image a mapping with `image` (height, width, 3) uint8, `filename`, `boxes` (n, 4), `classes` (n),
        `scores` (n), `truth_boxes` (m, 4), `truth_classes` (m); boxes are ymin, xmin, ymax, xmax in pixels of the image.
    names: class id -> name; an unknown id is shown as a number.
    path: local, or gs:// (then written by TensorFlow). Raises OSError when it cannot be written.
    """
    files.write_bytes(path, render(items, names, min_score))


def render(items: Sequence[Mapping[str, Any]], names: Mapping[int, str], min_score: float = MIN_SCORE) -> bytes:
    """The sheet's PNG; parameters as in `detection_sheet`."""
    sheet = Sheet(len(items), names, "detections")
    found = wrong = objects = 0
    for axes, item in zip(sheet.cells(), items, strict=True):
        counts = _draw(axes, item, names, min_score)
        found, wrong, objects = found + counts[0], wrong + counts[1], objects + counts[2]
    title = f"{found} of {objects} objects found, {wrong} wrong {'box' if wrong == 1 else 'boxes'}"
    return sheet.png(title, f"Held-out images · detections with a score of {min_score:g} or more")


def render_boxes(items: Sequence[Mapping[str, Any]], names: Mapping[int, str], title: str, subtitle: str) -> bytes:
    """A PNG of images and their boxes, judged neither right nor wrong. items: without `truth_…`, `scores` may be None."""
    sheet = Sheet(len(items), names, "objects")
    for axes, item in zip(sheet.cells(), items, strict=True):
        draw_boxes(axes, item, names)
        caption(axes, str(item["filename"]), faint=True)
    return sheet.png(title, subtitle)


def draw_boxes(axes: Axes, item: Mapping[str, Any], names: Mapping[int, str]) -> None:
    """The image with its boxes on it."""
    image = np.asarray(item["image"])
    show(axes, image)
    scores = item.get("scores")
    for index, (box, number) in reversed([*enumerate(zip(item["boxes"], item["classes"], strict=True))]):
        outline(axes, box, colour(number), 2.2)
        text = name_of(names, number) + (f"  {scores[index]:.2f}" if scores is not None else "")
        label(axes, box, text, colour(number), "#000000", (image.shape[0], image.shape[1]))


def match(
    boxes: NDArray, classes: NDArray, scores: NDArray, truth_boxes: NDArray, truth_classes: NDArray
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which detections are right and which objects are found.

    As in COCO's evaluation: best score first, each detection takes the object of its class with the highest IoU that is
    still free, if that is at least MATCH_IOU. Returns (n,) and (m,).
    """
    right, found = np.zeros(len(boxes), bool), np.zeros(len(truth_boxes), bool)
    for index in np.argsort(-scores, kind="stable"):
        overlaps = np.where((truth_classes == classes[index]) & ~found, iou(boxes[index], truth_boxes), 0.0)
        if len(overlaps) and overlaps.max() >= MATCH_IOU:
            right[index] = found[overlaps.argmax()] = True
    return right, found


def iou(box: NDArray, boxes: NDArray) -> NDArray:
    """Intersection over union of one box (4,) with each of boxes (n, 4); 0 where both are empty."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=1)
    union = np.prod(box[2:] - box[:2]) + np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) - common
    return np.divide(common, union, out=np.zeros(len(boxes)), where=union > 0)


def _draw(axes: Axes, item: Mapping[str, Any], names: Mapping[int, str], min_score: float) -> tuple[int, int, int]:
    """Draws one image. Returns how many objects were found, detections wrong, objects there."""
    scores = np.asarray(item["scores"], float).reshape(-1)
    keep = scores >= min_score
    scores, classes = scores[keep], np.asarray(item["classes"], int).reshape(-1)[keep]
    boxes = np.asarray(item["boxes"], float).reshape(-1, 4)[keep]
    truth_boxes = np.asarray(item["truth_boxes"], float).reshape(-1, 4)
    truth_classes = np.asarray(item["truth_classes"], int).reshape(-1)
    right, found = match(boxes, classes, scores, truth_boxes, truth_classes)

    image = np.asarray(item["image"])
    height, width = image.shape[:2]
    show(axes, image)
    for box, number, is_found in zip(truth_boxes, truth_classes, found, strict=True):
        outline(axes, box, TRUTH if is_found else WRONG, 1.4, dashed=True)
        if not is_found:
            label(axes, box, f"missed {name_of(names, number)}", WRONG, "#ffffff", (height, width), below=True)
    # The surest detections are drawn last, on top.
    for index in np.argsort(scores, kind="stable"):
        mark = "" if right[index] else "✗ "
        outline(axes, boxes[index], colour(classes[index]), 2.2)
        text = f"{mark}{name_of(names, classes[index])}  {scores[index]:.2f}"
        label(
            axes,
            boxes[index],
            text,
            colour(classes[index]) if right[index] else WRONG,
            "#000000" if right[index] else "#ffffff",
            (height, width),
        )
    good = bool(found.all() and right.all())
    caption(axes, f"{item['filename']}  ·  {int(found.sum())}/{len(truth_boxes)}", faint=good)
    return int(found.sum()), int((~right).sum()), len(truth_boxes)

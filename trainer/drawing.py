"""Sheets of images: what was detected drawn over what is there, or boxes alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

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
        `scores` (n), `truth_boxes` (m, 4), `truth_classes` (m), and perhaps `truth_crowd` (m) and `truth_difficult` (m);
        boxes are ymin, xmin, ymax, xmax in pixels of the image.
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


class Matched(NamedTuple):
    """Detections that are right or wrong (n), objects that are found or missed (m). What is neither does not count."""

    right: NDArray[np.bool_]
    wrong: NDArray[np.bool_]
    found: NDArray[np.bool_]
    missed: NDArray[np.bool_]


def match(
    boxes: NDArray,
    classes: NDArray,
    scores: NDArray,
    truth_boxes: NDArray,
    truth_classes: NDArray,
    truth_crowd: NDArray | None = None,
    truth_difficult: NDArray | None = None,
) -> Matched:
    """Judges an image's detections.

    As in COCO's evaluation: best score first, each detection takes the object of its class with the highest IoU that is
    still free, if that is at least MATCH_IOU. As there and in PASCAL VOC's neither difficult objects nor crowds count, nor what
    is detected of a difficult one or within a crowd.
    """
    crowd, difficult = (flags(marks, len(truth_boxes)) for marks in (truth_crowd, truth_difficult))
    right, wrong, found = (np.zeros(count, bool) for count in (len(boxes), len(boxes), len(truth_boxes)))
    for index in np.argsort(-scores, kind="stable"):
        mine = truth_classes == classes[index]
        overlaps = np.where(mine & ~crowd & ~found, iou(boxes[index], truth_boxes), 0.0)
        if len(overlaps) and overlaps.max() >= MATCH_IOU:
            right[index] = found[overlaps.argmax()] = not difficult[overlaps.argmax()]
        else:
            wrong[index] = not within(boxes[index], truth_boxes[mine & crowd])
    return Matched(right, wrong, found, ~(found | crowd | difficult))


def flags(marks: NDArray | None, count: int) -> NDArray[np.bool_]:
    """(count) marks of objects; none of them where the data has no such marks."""
    return np.zeros(count, bool) if marks is None else np.asarray(marks, bool)


def within(box: NDArray, crowds: NDArray) -> bool:
    """Whether at least MATCH_IOU of a box (4,) lies within one of crowds (n, 4)."""
    return bool((_common(box, crowds) >= MATCH_IOU * max(_area(box), 1e-9)).any())


def iou(box: NDArray, boxes: NDArray) -> NDArray:
    """Intersection over union of one box (4,) with each of boxes (n, 4); 0 where both are empty."""
    common = _common(box, boxes)
    union = _area(box) + _area(boxes) - common
    return np.divide(common, union, out=np.zeros(len(boxes)), where=union > 0)


def _common(box: NDArray, boxes: NDArray) -> NDArray:
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    return np.prod(np.maximum(high - low, 0), axis=1)


def _area(boxes: NDArray) -> Any:
    return np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1)


def _draw(axes: Axes, item: Mapping[str, Any], names: Mapping[int, str], min_score: float) -> tuple[int, int, int]:
    """Draws one image. Returns how many objects were found, detections wrong, objects there."""
    scores = np.asarray(item["scores"], float).reshape(-1)
    keep = scores >= min_score
    scores, classes = scores[keep], np.asarray(item["classes"], int).reshape(-1)[keep]
    boxes = np.asarray(item["boxes"], float).reshape(-1, 4)[keep]
    truth_boxes = np.asarray(item["truth_boxes"], float).reshape(-1, 4)
    truth_classes = np.asarray(item["truth_classes"], int).reshape(-1)
    marks = item.get("truth_crowd"), item.get("truth_difficult")
    _, wrong, found, missed = match(boxes, classes, scores, truth_boxes, truth_classes, *marks)

    image = np.asarray(item["image"])
    height, width = image.shape[:2]
    show(axes, image)
    for box, number, is_missed in zip(truth_boxes, truth_classes, missed, strict=True):
        outline(axes, box, WRONG if is_missed else TRUTH, 1.4, dashed=True)
        if is_missed:
            label(axes, box, f"missed {name_of(names, number)}", WRONG, "#ffffff", (height, width), below=True)
    # The surest detections are drawn last, on top.
    for index in np.argsort(scores, kind="stable"):
        mark = "✗ " if wrong[index] else ""
        outline(axes, boxes[index], colour(classes[index]), 2.2)
        text = f"{mark}{name_of(names, classes[index])}  {scores[index]:.2f}"
        label(
            axes,
            boxes[index],
            text,
            WRONG if wrong[index] else colour(classes[index]),
            "#ffffff" if wrong[index] else "#000000",
            (height, width),
        )
    objects = int((found | missed).sum())
    caption(axes, f"{item['filename']}  ·  {int(found.sum())}/{objects}", faint=not (missed.any() or wrong.any()))
    return int(found.sum()), int(wrong.sum()), objects

"""A sheet of held-out images with what was detected drawn over what is there."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer import files

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MIN_SCORE = 0.3  # detections below are not drawn: they would hide the image
MATCH_IOU = 0.5  # from here on a detection of the same class counts as right, as for AP50

_COLUMNS = 4
_CELL = 2.9  # inches, width and height of one image
_MIN_WIDTH = 7.4  # inches: what the legend needs
_LINE = 0.26  # inches, a line of the legend
_DPI = 110
_LEGEND_CLASSES = 20  # more classes than this are not listed; each box is labelled anyway

# A dark sheet shows colours well and suits light and dark pages alike.
_GROUND, _TEXT, _FAINT = "#16191d", "#f2f4f7", "#9aa4b0"
_TRUTH, _WRONG = "#ffffff", "#ff4d4f"
# Distinct and bright enough for black labels; repeated beyond.
_PALETTE = ("#4cc9f0", "#f9c74f", "#90be6d", "#f8961e", "#c77dff", "#43e0b0", "#ff8fab", "#b5e48c", "#8ea8ff", "#e0b188")


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
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, len(items))
    rows = math.ceil(len(items) / columns)
    listed = sorted(names) if len(names) <= _LEGEND_CLASSES else []
    width = max(columns * _CELL + 0.3, _MIN_WIDTH)
    entry = 0.55 + 0.085 * max((len(_name(names, number)) for number in listed), default=0)  # inches that one class needs
    per_line = max(1, min(len(listed), int((width - 0.4) / entry)))
    lines = math.ceil(len(listed) / per_line)
    header, footer, caption = 0.62, 0.5 + _LINE * lines, 0.3
    height = rows * (_CELL + caption) + header + footer
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor=_GROUND)
    left = (width - columns * _CELL) / 2
    found = wrong = objects = 0
    for index, item in enumerate(items):
        row, column = divmod(index, columns)
        bottom = height - header - (row + 1) * (_CELL + caption) + caption
        box = (left + column * _CELL + 0.07, bottom, _CELL - 0.14, _CELL - 0.14)
        axes = figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))
        counts = _draw(axes, item, names, min_score)
        found, wrong, objects = found + counts[0], wrong + counts[1], objects + counts[2]
    title = f"{found} of {objects} objects found, {wrong} wrong {'box' if wrong == 1 else 'boxes'}"
    _frame(figure, title, f"Held-out images · detections with a score of {min_score:g} or more", listed, per_line, names)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor=_GROUND)
    return buffer.getvalue()


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
    axes.imshow(image, interpolation="bicubic", extent=(0, width, height, 0), aspect="equal")
    axes.set_axis_off()
    for box, number, is_found in zip(truth_boxes, truth_classes, found, strict=True):
        _outline(axes, box, _TRUTH if is_found else _WRONG, 1.4, dashed=True)
        if not is_found:
            _label(axes, box, f"missed {_name(names, number)}", _WRONG, "#ffffff", (height, width), below=True)
    # The surest detections are drawn last, on top.
    for index in np.argsort(scores, kind="stable"):
        colour = _colour(classes[index])
        mark = "" if right[index] else "✗ "
        _outline(axes, boxes[index], colour, 2.2)
        text = f"{mark}{_name(names, classes[index])}  {scores[index]:.2f}"
        _label(
            axes,
            boxes[index],
            text,
            colour if right[index] else _WRONG,
            "#000000" if right[index] else "#ffffff",
            (height, width),
        )
    caption = f"{item['filename']}  ·  {int(found.sum())}/{len(truth_boxes)}"
    good = found.all() and right.all()
    axes.text(
        0.5, -0.02, caption, transform=axes.transAxes, ha="center", va="top", fontsize=8.5, color=_FAINT if good else _TEXT
    )
    return int(found.sum()), int((~right).sum()), len(truth_boxes)


def _outline(axes: Axes, box: NDArray, colour: str, width: float, dashed: bool = False) -> None:
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import Normal, Stroke

    ymin, xmin, ymax, xmax = box
    patch = Rectangle(
        (xmin, ymin),
        xmax - xmin,
        ymax - ymin,
        fill=False,
        edgecolor=colour,
        linewidth=width,
        linestyle=(0, (3, 2.2)) if dashed else "-",
    )
    # A dark rim keeps each line visible on any background.
    patch.set_path_effects([Stroke(linewidth=width + 1.6, foreground="#000000", alpha=0.55), Normal()])
    axes.add_patch(patch)


def _label(axes: Axes, box: NDArray, text: str, colour: str, ink: str, size: tuple[int, int], below: bool = False) -> None:
    """A small plate above the box (or below), pushed inwards where it would leave the image."""
    ymin, xmin, ymax, xmax = box
    height, width = size
    line = max(height, width) * 0.075
    if below:
        y, align = (ymax, "top") if ymax + line <= height else (ymax, "bottom")
    else:
        y, align = (ymin, "bottom") if ymin - line >= 0 else (ymin, "top")
    plate = {"boxstyle": "square,pad=0.18", "facecolor": colour, "edgecolor": "none", "alpha": 0.92}
    to_left = xmin > width * 0.62
    axes.text(
        min(xmax, width) if to_left else max(xmin, 0),
        min(max(y, 0), height),
        text,
        ha="right" if to_left else "left",
        va=align,
        fontsize=8.5,
        fontweight="bold",
        color=ink,
        bbox=plate,
        clip_on=False,
    )


def _frame(figure: Figure, title: str, subtitle: str, listed: Sequence[int], per_line: int, names: Mapping[int, str]) -> None:
    """Title above, legend below with so many classes to a line."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    width, height = figure.get_size_inches()
    x = 0.22 / width
    figure.text(x, 1 - 0.2 / height, title, color=_TEXT, fontsize=13, fontweight="bold", va="top")
    figure.text(x, 1 - 0.45 / height, subtitle, color=_FAINT, fontsize=9, va="top")
    style = {
        "frameon": False,
        "fontsize": 8.5,
        "labelcolor": _TEXT,
        "borderaxespad": 0,
        "handletextpad": 0.6,
        "columnspacing": 1.4,
    }
    lines = [
        Line2D([], [], color=_TRUTH, linewidth=1.4, linestyle=(0, (3, 2.2)), label="there and found"),
        Line2D([], [], color=_WRONG, linewidth=1.4, linestyle=(0, (3, 2.2)), label="there and missed"),
        Line2D([], [], color=_PALETTE[0], linewidth=2.2, label="detected: class and score"),
        Patch(facecolor=_WRONG, label="✗ detected wrongly"),
    ]
    above = 0.14 + _LINE * math.ceil(len(listed) / per_line)
    figure.legend(handles=lines, ncols=4, loc="lower left", bbox_to_anchor=(x, above / height), **style)
    if listed:
        classes = [Patch(facecolor=_colour(number), label=_name(names, number)) for number in listed]
        figure.legend(handles=classes, ncols=per_line, loc="lower left", bbox_to_anchor=(x, 0.14 / height), **style)


def _colour(number: int) -> str:
    return _PALETTE[(int(number) - 1) % len(_PALETTE)]


def _name(names: Mapping[int, str], number: int) -> str:
    return names.get(int(number), str(int(number)))

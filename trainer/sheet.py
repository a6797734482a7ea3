"""Images in rows with boxes and labels on them, a title above and a legend below: what the sheets of drawings share."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 4
_CELL = 2.9  # inches, width and height of one image
_MIN_WIDTH = 7.4  # inches: what the legend needs
_LINE = 0.26  # inches, a line of the legend
_DPI = 110
_LEGEND_CLASSES = 20  # more classes than this are not listed; each box is labelled anyway

# A dark sheet shows colours well and suits light and dark pages alike.
_GROUND, _TEXT, _FAINT = "#16191d", "#f2f4f7", "#9aa4b0"
TRUTH, WRONG = "#ffffff", "#ff4d4f"
# Distinct and bright enough for black labels; repeated beyond.
_PALETTE = ("#4cc9f0", "#f9c74f", "#90be6d", "#f8961e", "#c77dff", "#43e0b0", "#ff8fab", "#b5e48c", "#8ea8ff", "#e0b188")


class Sheet:
    """A figure for so many images. names: class id -> name, for the legend."""

    def __init__(self, count: int, names: Mapping[int, str], legend: Literal["detections", "objects"]) -> None:
        from matplotlib.figure import Figure

        self._count, self._names, self._legend = count, names, legend
        self._columns = min(_COLUMNS, count)
        rows = math.ceil(count / self._columns)
        self._listed = sorted(names) if len(names) <= _LEGEND_CLASSES else []
        width = max(self._columns * _CELL + 0.3, _MIN_WIDTH)
        entry = 0.55 + 0.085 * max((len(name_of(names, number)) for number in self._listed), default=0)  # inches of one class
        self._per_line = max(1, min(len(self._listed), int((width - 0.4) / entry)))
        self._lines = math.ceil(len(self._listed) / self._per_line)
        self._header, self._caption = 0.62, 0.3
        footer = (0.5 if legend == "detections" else 0.24) + _LINE * self._lines
        height = rows * (_CELL + self._caption) + self._header + footer
        self._figure = Figure(figsize=(width, height), dpi=_DPI, facecolor=_GROUND)

    def cells(self) -> Iterator[Axes]:
        """The place of each image, row by row."""
        width, height = self._figure.get_size_inches()
        left = (width - self._columns * _CELL) / 2
        for index in range(self._count):
            row, column = divmod(index, self._columns)
            bottom = height - self._header - (row + 1) * (_CELL + self._caption) + self._caption
            box = (left + column * _CELL + 0.07, bottom, _CELL - 0.14, _CELL - 0.14)
            yield self._figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))

    def png(self, title: str, subtitle: str) -> bytes:
        """The finished sheet."""
        self._frame(title, subtitle)
        buffer = io.BytesIO()
        self._figure.savefig(buffer, format="png", facecolor=_GROUND)
        return buffer.getvalue()

    def _frame(self, title: str, subtitle: str) -> None:
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch

        figure = self._figure
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
        if self._legend == "detections":
            lines = [
                Line2D([], [], color=TRUTH, linewidth=1.4, linestyle=(0, (3, 2.2)), label="there and found"),
                Line2D([], [], color=WRONG, linewidth=1.4, linestyle=(0, (3, 2.2)), label="there and missed"),
                Line2D([], [], color=_PALETTE[0], linewidth=2.2, label="detected: class and score"),
                Patch(facecolor=WRONG, label="✗ detected wrongly"),
            ]
            above = 0.14 + _LINE * self._lines
            figure.legend(handles=lines, ncols=4, loc="lower left", bbox_to_anchor=(x, above / height), **style)
        if self._listed:
            classes = [Patch(facecolor=colour(number), label=name_of(self._names, number)) for number in self._listed]
            figure.legend(handles=classes, ncols=self._per_line, loc="lower left", bbox_to_anchor=(x, 0.14 / height), **style)


def show(axes: Axes, image: NDArray[np.uint8]) -> None:
    """image: (height, width, 3)."""
    height, width = image.shape[:2]
    axes.imshow(image, interpolation="bicubic", extent=(0, width, height, 0), aspect="equal")
    axes.set_axis_off()


def caption(axes: Axes, text: str, faint: bool) -> None:
    """Below the image; what deserves a look is not faint."""
    ink = _FAINT if faint else _TEXT
    axes.text(0.5, -0.02, text, transform=axes.transAxes, ha="center", va="top", fontsize=8.5, color=ink)


def outline(axes: Axes, box: NDArray, colour: str, width: float, dashed: bool = False) -> None:
    """box: ymin, xmin, ymax, xmax in pixels of the image; width in points."""
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


def label(axes: Axes, box: NDArray, text: str, colour: str, ink: str, size: tuple[int, int], below: bool = False) -> None:
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


def colour(number: int) -> str:
    """Of a class."""
    return _PALETTE[(int(number) - 1) % len(_PALETTE)]


def name_of(names: Mapping[int, str], number: int) -> str:
    """An unknown class is its number."""
    return names.get(int(number), str(int(number)))

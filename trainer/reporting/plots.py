"""Pictures of an evaluation's analysis: precision against recall per class, and what was taken for what."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from trainer.reporting.curves import LIGHT, Theme, png, style

_COLUMNS = 5
_NUMBERED = 24  # classes up to which the confusions' cells have numbers
_DPI = 150


def precision_recall(curves: Mapping[str, Sequence[Sequence[float]]], theme: Theme = LIGHT) -> bytes:
    """A PNG with a panel for each class. curves: class -> ([recall …], [precision …])."""
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, len(curves))
    rows = math.ceil(len(curves) / columns)
    figure = Figure(figsize=(2.2 * columns + 0.3, 2.1 * rows + 0.3), dpi=_DPI, facecolor=theme.ground, layout="constrained")
    for index, (name, (recall, precision)) in enumerate(curves.items()):
        axes = figure.add_subplot(rows, columns, index + 1)
        style(axes, theme, 0.7, 7.5)
        # From the left edge on; what is not reached is not drawn.
        x, y = [0.0, *recall], [precision[0] if precision else 0.0, *precision]
        axes.plot(x, y, color=theme.first, linewidth=1.7)
        axes.fill_between(x, y, color=theme.first, alpha=0.12)
        axes.set_xlim(0, 1.02)
        axes.set_ylim(0, 1.05)
        axes.set_xticks([0, 0.5, 1])
        axes.set_yticks([0, 0.5, 1])
        axes.set_title(
            name if len(name) <= 22 else f"{name[:21]}…", loc="left", color=theme.ink, fontsize=9.5, fontweight="bold"
        )
        axes.set_title(f"recall {recall[-1] if recall else 0:.2f}", loc="right", color=theme.faint, fontsize=7.5)
        if index % columns == 0:
            axes.set_ylabel("precision", color=theme.faint, fontsize=8)
        if index + columns >= len(curves):
            axes.set_xlabel("recall", color=theme.faint, fontsize=8)
    return png(figure, theme)


def confusion(names: Sequence[str], matrix: Sequence[Sequence[int]], theme: Theme = LIGHT) -> bytes:
    """A PNG: rows are what is there, columns what was detected; the colour is the share of the row."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    counts = np.asarray(matrix, float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = len(names)
    side = max(4.2, 0.42 * size) if size <= _NUMBERED + 1 else max(7.0, 0.17 * size)
    figure = Figure(figsize=(side + 1.6, side + 0.9), dpi=_DPI, facecolor=theme.ground, layout="constrained")
    axes = figure.add_subplot()
    axes.set_facecolor(theme.ground)
    colours = LinearSegmentedColormap.from_list("share", [theme.ground, theme.first])
    axes.imshow(shares, cmap=colours, vmin=0, vmax=1)
    font = 8.5 if size <= _NUMBERED + 1 else 5.5
    axes.set_xticks(range(size), names, rotation=45, ha="right", rotation_mode="anchor", fontsize=font, color=theme.ink)
    axes.set_yticks(range(size), names, fontsize=font, color=theme.ink)
    axes.set_xlabel("detected as", color=theme.faint, fontsize=9)
    axes.set_ylabel("there is", color=theme.faint, fontsize=9)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_color(theme.grid)
    for line in (axes.axhline, axes.axvline):
        line(size - 1.5, color=theme.faint, linewidth=1)
    if size <= _NUMBERED + 1:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                ink = theme.ground if shares[row, column] > 0.5 else theme.ink
                axes.text(column, row, f"{count:.0f}", ha="center", va="center", fontsize=8, color=ink)
    return png(figure, theme)


def confusions(names: Sequence[str], matrix: Sequence[Sequence[int]], most: int) -> list[tuple[str, str, int]]:
    """(what is there, what it was taken for, how often), the most frequent mistakes first."""
    found = [
        (count, names[row], names[column])
        for row, counts in enumerate(matrix)
        for column, count in enumerate(counts)
        if row != column and count
    ]
    return [(there, taken, count) for count, there, taken in sorted(found, key=lambda entry: -entry[0])[:most]]

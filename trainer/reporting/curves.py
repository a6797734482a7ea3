"""Curves of a run: loss, precision, learning rate, speed against the step, as a PNG for light or dark pages."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.reporting.events import Series
from trainer.reporting.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SMOOTHING = 0.7  # weight of the past, as in TensorBoard's slider; more would trail visibly behind a falling loss
_SMOOTHED_FROM = 20  # points; fewer are shown as they are


@dataclass(frozen=True)
class Theme:
    ground: str
    ink: str
    faint: str
    grid: str
    first: str
    second: str


LIGHT = Theme("#ffffff", "#1b1f24", "#5b6570", "#e6e9ed", "#0b62d6", "#c2540a")
DARK = Theme("#1c2026", "#eceff3", "#a3adb8", "#333a43", "#6cb2ff", "#ffac5e")


def smooth(series: Series, weight: float = SMOOTHING) -> Series:
    """Exponential moving average, corrected for its start at 0 (as TensorBoard does): the first value stays what it is."""
    smoothed: Series = []
    average = 0.0
    for count, (step, value) in enumerate(series, start=1):
        average = weight * average + (1 - weight) * value
        smoothed.append((step, average / (1 - weight**count)))
    return smoothed


def render(results: Results, theme: Theme = LIGHT) -> bytes:
    """The PNG; a panel for each thing that the run has."""
    from matplotlib.figure import Figure

    panels: list[Callable[[Axes, Results, Theme], None]] = []
    panels += [_loss] if results.loss else []
    panels += [_precision] if results.history else []
    panels += [_learning_rate] if results.learning_rate else []
    panels += [_speed] if results.steps_per_second else []
    columns = min(2, max(1, len(panels)))
    rows = max(1, math.ceil(len(panels) / columns))
    figure = Figure(figsize=(5.4 * columns + 0.2, 3.3 * rows), dpi=150, facecolor=theme.ground, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12, wspace=0.03, hspace=0.05)  # type: ignore[union-attr,call-arg]
    for index, panel in enumerate(panels, start=1):
        axes = figure.add_subplot(rows, columns, index)
        _style(axes, theme)
        panel(axes, results, theme)
    if not panels:
        figure.text(0.5, 0.5, "nothing recorded yet", ha="center", color=theme.faint)
    return png(figure, theme)


def png(figure: Figure, theme: Theme) -> bytes:
    """The figure as a PNG on the theme's ground."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor=theme.ground)
    return buffer.getvalue()


def style(axes: Axes, theme: Theme, grid_width: float, label_size: float) -> None:
    """A panel with a faint grid behind and no frame but left and bottom. Both sizes in points."""
    axes.set_facecolor(theme.ground)
    axes.grid(True, color=theme.grid, linewidth=grid_width)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(theme.grid)
    axes.tick_params(colors=theme.faint, labelsize=label_size, length=0)


def _style(axes: Axes, theme: Theme) -> None:
    style(axes, theme, 0.8, 8.5)
    axes.set_xlabel("step", color=theme.faint, fontsize=9)
    axes.margins(x=0.02)


def _title(axes: Axes, theme: Theme, title: str, note: str = "") -> None:
    axes.set_title(title, loc="left", color=theme.ink, fontsize=11, fontweight="bold", pad=9)
    axes.set_title(note, loc="right", color=theme.faint, fontsize=9, pad=9)


def _line(axes: Axes, series: Series, colour: str, **options: Any) -> None:
    steps, values = zip(*series, strict=True)
    alone = {"marker": "o", "markersize": 4} if len(series) == 1 else {}
    axes.plot(steps, values, color=colour, **{"linewidth": 1.9, "solid_capstyle": "round", **alone, **options})


def _loss(axes: Axes, results: Results, theme: Theme) -> None:
    series = results.loss
    smoothed = smooth(series) if len(series) >= _SMOOTHED_FROM else series
    _title(axes, theme, "Training loss", f"{smoothed[-1][1]:.3g} at step {smoothed[-1][0]:,}")
    if smoothed is not series:
        _line(axes, series, theme.first, alpha=0.28, linewidth=1.0, label="each record")
        _line(axes, smoothed, theme.first, label="smoothed")
        _legend(axes, theme)
    else:
        _line(axes, series, theme.first)
    # The first steps' loss may be many times the rest and would flatten it.
    values = sorted(value for _, value in series)
    if len(values) >= _SMOOTHED_FROM and values[-1] > 6 * values[len(values) // 2] > 0:
        axes.set_yscale("log")
        from matplotlib.ticker import FuncFormatter, NullFormatter

        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        if values[-1] > 20 * values[0]:
            axes.yaxis.set_minor_formatter(NullFormatter())
        else:
            axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.tick_params(which="minor", colors=theme.faint, labelsize=7.5, length=0)
    else:
        axes.set_ylim(bottom=min(0.0, values[0]))


def _precision(axes: Axes, results: Results, theme: Theme) -> None:
    _title(axes, theme, "Average precision, held-out images")
    for name, colour in (("AP50", theme.second), ("AP", theme.first)):
        series = results.history.get(name)
        if not series:
            continue
        _line(axes, series, colour, marker="o", markersize=4.5, label=name)
        step, value = series[-1]
        axes.annotate(
            f"{value:.3f}",
            (step, value),
            xytext=(-4, 7),
            textcoords="offset points",
            ha="right",
            color=colour,
            fontsize=9,
            fontweight="bold",
        )
    axes.set_ylim(0, 1.04)
    steps = [step for series in results.history.values() for step, _ in series]
    axes.set_xlim(0, max(1, *steps) * 1.04)
    _legend(axes, theme, loc="lower right" if min(steps) < max(steps) / 2 else "lower left")


def _learning_rate(axes: Axes, results: Results, theme: Theme) -> None:
    _title(axes, theme, "Learning rate")
    _line(axes, results.learning_rate, theme.first)
    axes.set_ylim(bottom=0)
    axes.ticklabel_format(axis="y", style="plain", useOffset=False)


def _speed(axes: Axes, results: Results, theme: Theme) -> None:
    values = sorted(value for _, value in results.steps_per_second)
    _title(axes, theme, "Steps per second", f"median {values[len(values) // 2]:.2g}")
    _line(axes, results.steps_per_second, theme.first)
    axes.set_ylim(0, values[-1] * 1.15 or 1)


def _legend(axes: Axes, theme: Theme, **options: Any) -> None:
    axes.legend(frameon=False, fontsize=9, labelcolor=theme.ink, **options)

"""Curves as SVG, drawn here: no script and no style of its own, colours come from the page. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from localcloud.dashboard.text import number

Point = tuple[float, float]

WIDTH, HEIGHT = 340, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 8, 10, 20  # of the plot, around it
_MOST = 300  # points drawn


def chart(
    identity: str,
    title: str,
    lines: Sequence[tuple[str, Sequence[Point]]],
    *,
    last: float | None = None,
    span: tuple[float, float] | None = None,
) -> Markup:
    """One figure with a line for each (name, points by step).

    `last`: the step at which the axis ends at least; `span`: the ends of the axis of values; both if they are known.
    The first line is drawn strongly. Values that are not finite are left out. With nothing to draw it is empty.
    """
    drawn = [(name, thin([point for point in points if drawable(point[1])])) for name, points in lines]
    drawn = [(name, points) for name, points in drawn if points]
    if not drawn:
        return Markup()
    steps = [step for _, points in drawn for step, _ in points]
    low_step = min(steps) if min(steps) < max(steps) else 0.0
    high_step = max(*steps, last or 0, low_step + 1)
    low, high = span or bounds([value for _, points in drawn for _, value in points])

    def at(point: Point) -> str:
        x = _LEFT + (point[0] - low_step) / (high_step - low_step) * (WIDTH - _LEFT - _RIGHT)
        y = _TOP + (high - point[1]) / (high - low) * (HEIGHT - _TOP - _BOTTOM)
        return f"{x:.1f},{y:.1f}"

    parts = []
    for value in (low, (low + high) / 2, high):
        y = at((low_step, value)).partition(",")[2]
        parts.append(Markup('<path class="grid" d="M{},{} H{}"/>').format(_LEFT, y, WIDTH - _RIGHT))
        label = Markup('<text x="{}" y="{:.1f}" text-anchor="end">{}</text>')
        parts.append(label.format(_LEFT - 6, float(y) + 3.5, number(value)))
    for step, anchor, x in ((low_step, "start", _LEFT), (high_step, "end", WIDTH - _RIGHT)):
        label = Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>')
        parts.append(label.format(x, HEIGHT - 5, anchor, f"{step:,.0f}"))
    for place, (_, points) in reversed(list(enumerate(drawn))):
        parts.append(Markup('<polyline class="line line-{}" points="{}"/>').format(place, " ".join(map(at, points))))
        end, _, y = at(points[-1]).partition(",")
        parts.append(Markup('<circle class="dot dot-{}" cx="{}" cy="{}" r="2.6"/>').format(place, end, y))
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-labelledby="{}-title {}-text">'
        '<title id="{}-title">{}</title><desc id="{}-text">{}</desc>{}</svg>'
    ).format(
        *(WIDTH, HEIGHT, identity, identity, identity, title, identity),
        " ".join(_told(name, points) for name, points in drawn),
        Markup().join(parts),
    )


def smooth(points: Sequence[Point]) -> list[Point]:
    """A running mean over about a fifteenth of the points, exponential and corrected for its beginning."""
    share = 1 - 1 / max(2.0, len(points) / 15)
    smoothed: list[Point] = []
    total = weight = 0.0
    for step, value in points:
        if drawable(value):
            total, weight = total * share + value, weight * share + 1
            smoothed.append((step, total / weight))
    return smoothed


def drawable(value: float) -> bool:
    """Whether a value has a place on an axis."""
    return math.isfinite(value) and abs(value) < 1e100


def thin(points: Sequence[Point]) -> list[Point]:
    """At most about _MOST points: of each group of neighbours the lowest and the highest; the last one stays."""
    if len(points) <= _MOST:
        return list(points)
    group = math.ceil(len(points) / (_MOST // 2))
    kept: list[Point] = []
    for start in range(0, len(points), group):
        some = points[start : start + group]
        kept += sorted({min(some, key=lambda point: point[1]), max(some, key=lambda point: point[1])})
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def bounds(values: Sequence[float]) -> tuple[float, float]:
    """Round ends of an axis on which the values are: from 0 when they begin near it."""
    low, high = min(values), max(values)
    size = max(abs(low), abs(high))
    if size < 1e-12:
        return 0.0, 1.0
    if 0 <= low < high / 2:
        low = 0.0
    elif high - low < size * 1e-6:
        low, high = low - size / 2, high + size / 2
    unit = 10.0 ** math.floor(math.log10(high - low))
    step = next(unit * part for part in (0.2, 0.5, 1.0, 2.0) if (high - low) / (unit * part) <= 6)
    return math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step


def _told(name: str, points: Sequence[Point]) -> str:
    first, last = points[0], points[-1]
    if len(points) == 1:
        return f"{name}: {number(last[1])} at step {last[0]:,.0f}."
    return f"{name}: from {number(first[1])} at step {first[0]:,.0f} to {number(last[1])} at step {last[0]:,.0f}."

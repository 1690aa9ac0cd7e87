"""Small charts as inline SVG: lines, and ranges with a value.

No fixed colours and no fonts: both come from the page's style sheet, so that a chart follows light
and dark. A chart is 400 units wide, about the width of a phone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 400
PLOT_HEIGHT = 180
LINE_HEIGHT = 15
COLOURS = 8
_LETTER_WIDTH = 6.6
_MAX_POINTS = 400

Point = tuple[float, float]


@dataclass(frozen=True)
class Range:
    """One row of a range chart.

    Attributes:
        inner: a second, shorter range, drawn thicker; None to leave it out.
        colour: number of the colour, 0 to 7.
    """

    label: str
    low: float
    value: float
    high: float
    inner: tuple[float, float] | None = None
    colour: int = 0


@dataclass(frozen=True)
class _Axis:
    """Maps data to the picture; `ticks` are data values."""

    start: float
    end: float
    ticks: list[float]
    from_pixel: float
    to_pixel: float

    def __call__(self, value: float) -> float:
        share = (value - self.start) / (self.end - self.start)
        return self.from_pixel + share * (self.to_pixel - self.from_pixel)


def line_chart(series: Mapping[str, Sequence[Point]], *, title: str, x_label: str) -> str:
    """Lines over a common x axis, with a legend; points that are not finite are left out."""
    lines = {name: _thin([p for p in points if _finite(*p)]) for name, points in series.items()}
    lines = {name: points for name, points in lines.items() if points}
    if not lines:
        raise ValueError(f"chart {title}: no finite point")
    legend, top = _legend(list(lines), top=26)
    xs = [x for points in lines.values() for x, _ in points]
    ys = [y for points in lines.values() for _, y in points]
    y_ticks = nice_ticks(min(ys), max(ys))
    left = 12 + _LETTER_WIDTH * max(len(tick_text(tick, y_ticks)) for tick in y_ticks)
    x_axis = _x_axis(xs, from_pixel=left, to_pixel=WIDTH - 16)
    y_axis = _axis(ys, y_ticks, from_pixel=top + PLOT_HEIGHT, to_pixel=top)
    parts = [
        _title(title),
        *legend,
        *_y_grid(y_axis, left=left),
        *_x_labels(x_axis, y_axis, x_label),
    ]
    for number, points in enumerate(lines.values()):
        path = " ".join(f"{x_axis(x):.1f},{y_axis(y):.1f}" for x, y in points)
        parts.append(f'<polyline class="line c{number % COLOURS}" points="{path}"/>')
        if len(points) == 1:
            x, y = points[0]
            parts.append(_dot(x_axis(x), y_axis(y), number))
    return _svg(parts, height=top + PLOT_HEIGHT + 38, title=title)


def range_chart(rows: Sequence[Range], *, title: str, zero: bool = False) -> str:
    """One row per label: a line from low to high and a dot at the value.

    Args:
        zero: mark 0, for differences.
    """
    numbers = [n for row in rows for n in (row.low, row.value, row.high) if math.isfinite(n)]
    numbers += [0.0] if zero else []
    label_width = min(190.0, 14 + _LETTER_WIDTH * max(len(row.label) for row in rows))
    ticks = nice_ticks(min(numbers), max(numbers))
    axis = _axis(numbers, ticks, from_pixel=label_width, to_pixel=WIDTH - 18)
    top, step = 30, 24
    bottom = top + step * len(rows)
    parts = [_title(title)]
    for tick in ticks:
        x = axis(tick)
        weight = " zero" if zero and tick == 0 else ""
        parts.append(
            f'<line class="grid{weight}" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>'
        )
        parts.append(_text(x, bottom + 16, tick_text(tick, ticks), anchor="middle"))
    for number, row in enumerate(rows):
        parts += _range_row(row, axis, y=top + step * number + step / 2)
    return _svg(parts, height=bottom + 26, title=title)


def nice_ticks(low: float, high: float, *, count: int = 5) -> list[float]:
    """Round numbers that cover low to high: steps of 1, 2 or 5 times a power of ten."""
    if low == high:
        pad = abs(low) * 0.1 or 0.5
        low, high = low - pad, high + pad
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def tick_text(tick: float, ticks: Sequence[float]) -> str:
    """The tick with as many decimals as the distance of ticks needs."""
    step = ticks[1] - ticks[0]
    if max(abs(t) for t in ticks) >= 1e5 or step < 1e-4:
        return f"{tick:.1e}"
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{tick:.{decimals}f}"


def _x_axis(xs: Sequence[float], *, from_pixel: float, to_pixel: float) -> _Axis:
    """As wide as the data; ticks beyond it are left out."""
    low, high = min(xs), max(xs)
    if low == high:
        return _axis(xs, nice_ticks(low, high), from_pixel=from_pixel, to_pixel=to_pixel)
    ticks = [tick for tick in nice_ticks(low, high) if low <= tick <= high]
    return _Axis(low, high, ticks, from_pixel, to_pixel)


def _axis(
    numbers: Sequence[float], ticks: list[float], *, from_pixel: float, to_pixel: float
) -> _Axis:
    start, end = min(*numbers, ticks[0]), max(*numbers, ticks[-1])
    return _Axis(start, end, ticks, from_pixel, to_pixel)


def _range_row(row: Range, axis: _Axis, *, y: float) -> list[str]:
    colour = f"c{row.colour % COLOURS}"
    parts = [_text(0, y + 4, row.label)]
    hint = f"{row.label}: {row.value:.4g} ({row.low:.4g} to {row.high:.4g})"
    if _finite(row.low, row.high):
        parts.append(_bar(axis(row.low), axis(row.high), y, f"line {colour}"))
    if row.inner is not None:
        parts.append(_bar(axis(row.inner[0]), axis(row.inner[1]), y, f"thick {colour}"))
    parts.append(_dot(axis(row.value), y, row.colour, hint=hint))
    return parts


def _bar(start: float, end: float, y: float, style: str) -> str:
    return f'<line class="{style}" x1="{start:.1f}" x2="{end:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'


def _dot(x: float, y: float, colour: int, *, hint: str = "") -> str:
    shown = f"<title>{escape(hint)}</title>" if hint else ""
    return (
        f'<circle class="dot c{colour % COLOURS}" cx="{x:.1f}" cy="{y:.1f}" r="4">{shown}</circle>'
    )


def _legend(names: list[str], *, top: float) -> tuple[list[str], float]:
    """Swatches with names, as many in a row as fit; and the height at which the plot begins."""
    parts, x, y = [], 4.0, top + 14
    for number, name in enumerate(names):
        width = 24 + _LETTER_WIDTH * len(name)
        if x > 4 and x + width > WIDTH:
            x, y = 4.0, y + LINE_HEIGHT
        parts.append(_bar(x, x + 14, y - 4, f"thick c{number % COLOURS}"))
        parts.append(_text(x + 18, y, name))
        x += width + 8
    return parts, y + 14


def _y_grid(axis: _Axis, *, left: float) -> list[str]:
    parts = []
    for tick in axis.ticks:
        y = axis(tick)
        parts.append(
            f'<line class="grid" x1="{left:.1f}" x2="{WIDTH - 12}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        parts.append(_text(left - 6, y + 4, tick_text(tick, axis.ticks), anchor="end"))
    return parts


def _x_labels(x_axis: _Axis, y_axis: _Axis, label: str) -> list[str]:
    base = y_axis.from_pixel
    parts = [
        _text(x_axis(tick), base + 16, tick_text(tick, x_axis.ticks), anchor="middle")
        for tick in x_axis.ticks
    ]
    middle = (x_axis.from_pixel + x_axis.to_pixel) / 2
    return [*parts, _text(middle, base + 32, label, anchor="middle")]


def _title(text: str) -> str:
    return f'<text class="title" x="0" y="14">{escape(text)}</text>'


def _text(x: float, y: float, text: str, *, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(parts: list[str], *, height: float, title: str) -> str:
    body = "\n".join(parts)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">\n'
        f"{body}\n</svg>"
    )


def _thin(points: list[Point]) -> list[Point]:
    """Every k-th point and the last one, so that long trainings stay small."""
    stride = math.ceil(len(points) / _MAX_POINTS)
    if stride <= 1:
        return points
    return [*points[:-1:stride], points[-1]]


def _finite(*numbers: float) -> bool:
    return all(math.isfinite(number) for number in numbers)

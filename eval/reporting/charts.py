"""Charts of the report, drawn by matplotlib as SVG that is put into the page as it is.

Colours are names of the page's style sheet, so that a chart follows light and dark; fonts are the
page's too. A chart is 400 units wide, about the width of a phone. Titles and legends are HTML,
which wraps where a phone needs it.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CHART_WIDTH = 400.0
COLOURS = 8
FONT_SIZE = 12.0
_POINTS_PER_INCH = 72.0
_ROW_HEIGHT = 24.0
_MAX_POINTS = 400
_TEXT, _SOFT, _LINE, _PAGE = "#0c0d01", "#0c0d02", "#0c0d03", "#0c0d04"
_STAND_INS = {_TEXT: "text", _SOFT: "soft", _LINE: "line", _PAGE: "page"} | {
    f"#0c0e0{number}": f"c{number}" for number in range(COLOURS)
}
"""Colours that nothing else has, and the style sheet's name that takes their place."""
_DASHES = ("-", "--", ":", "-.")
_LETTER_WIDTH = 0.58  # of the font size, on average, with room to spare

Point = tuple[float, float]


@dataclass(frozen=True)
class Chart:
    """One picture.

    Attributes:
        svg: an `<svg>` element.
        legend: (label, colour number, dash number) of each series; empty where rows are labelled.
        summary: what it shows, for those who do not see it.
    """

    title: str
    svg: str
    legend: Sequence[tuple[str, int, int]] = ()
    summary: str = ""


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


def line_chart(series: Mapping[str, Sequence[Point]], *, title: str, x_label: str) -> Chart:
    """Lines over a common x axis; points that are not finite are left out.

    Raises:
        ValueError: no finite point.
    """
    lines = {name: _thin([p for p in points if _finite(*p)]) for name, points in series.items()}
    lines = {name: points for name, points in lines.items() if points}
    if not lines:
        raise ValueError(f"chart {title}: no finite point")
    legend = _legend(lines)
    with _picture(title, height=210.0) as drawing:
        axes = drawing.axes(left=46, right=8, top=8, bottom=36)
        for (_, colour, dash), points in zip(legend, lines.values(), strict=True):
            xs, ys = zip(*points, strict=True)
            style = {"marker": "o"} if len(points) == 1 else {"linestyle": _DASHES[dash]}
            axes.plot(xs, ys, color=_colour(colour), linewidth=1.6, markersize=4, **style)
        axes.grid(axis="y")
        axes.margins(x=0.01)
        axes.set_xlabel(x_label)
    ends = [f"{name} {points[0][1]:.3g} to {points[-1][1]:.3g}" for name, points in lines.items()]
    return Chart(title, drawing.svg, legend if len(lines) > 1 else (), "; ".join(ends))


def range_chart(rows: Sequence[Range], *, title: str, zero: bool = False) -> Chart:
    """One row per label: a line from low to high and a dot at the value.

    Args:
        zero: mark 0, for differences.
    """
    label_width = min(170.0, 10 + _width(max((row.label for row in rows), key=len)))
    with _picture(title, height=30 + _ROW_HEIGHT * len(rows)) as drawing:
        axes = drawing.axes(left=label_width, right=12, top=4, bottom=26)
        for place, row in enumerate(rows):
            colour = _colour(row.colour)
            if _finite(row.low, row.high):
                axes.plot([row.low, row.high], [place, place], color=colour, linewidth=1.8)
            if row.inner is not None:
                axes.plot(row.inner, [place, place], color=colour, linewidth=7)
            axes.plot([row.value], [place], "o", color=colour, markersize=7, markeredgecolor=_PAGE)
        if zero:
            axes.axvline(0.0, color=_SOFT, linewidth=1.2, zorder=0.5)
        _label_rows(axes, [row.label for row in rows])
    summary = "; ".join(
        f"{row.label} {row.value:.3g} ({row.low:.3g} to {row.high:.3g})" for row in rows
    )
    return Chart(title, drawing.svg, summary=summary)


def bar_chart(values: Mapping[str, float], *, title: str, unit: str = "", colour: int = 0) -> Chart:
    """One horizontal bar per label, the number beside it."""
    names = list(values)
    label_width = min(190.0, 10 + _width(max(names, key=len)))
    texts = [f"{value:.3g}{unit}" for value in values.values()]
    with _picture(title, height=6 + _ROW_HEIGHT * len(names)) as drawing:
        axes = drawing.axes(
            left=label_width, right=14 + _width(max(texts, key=len)), top=2, bottom=2
        )
        axes.barh(range(len(names)), list(values.values()), height=0.62, color=_colour(colour))
        for place, (value, text) in enumerate(zip(values.values(), texts, strict=True)):
            axes.annotate(
                text,
                (value, place),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                annotation_clip=False,
            )
        axes.set_xticks([])
        axes.set_xlim(left=0.0)
        _label_rows(axes, names, grid=False)
    return Chart(
        title, drawing.svg, summary="; ".join(map(" ".join, zip(names, texts, strict=True)))
    )


def radar_chart(
    groups: Sequence[str], series: Mapping[str, Sequence[float]], *, title: str
) -> Chart:
    """A closed line per series over spokes that start at 0 in the middle.

    Args:
        series: name to one value per group, in the order of groups.
    """
    from matplotlib.ticker import MaxNLocator

    highest = max(value for values in series.values() for value in values)
    angles = [2 * math.pi * place / len(groups) for place in range(len(groups))]
    legend = _legend(series)
    with _picture(title, height=300.0) as drawing:
        axes = drawing.axes(left=60, right=60, top=24, bottom=24, projection="polar")
        axes.set_theta_offset(math.pi / 2)
        axes.set_theta_direction(-1)
        for (_, colour, dash), values in zip(legend, series.values(), strict=True):
            closed = ([*angles, angles[0]], [*values, values[0]])
            style = {"color": _colour(colour), "linestyle": _DASHES[dash]}
            axes.plot(*closed, linewidth=2.4 if colour == 0 else 1.4, **style)
            if colour == 0:
                axes.fill(*closed, color=_colour(colour), alpha=0.15, linewidth=0)
        axes.set_xticks(angles, groups)
        axes.set_ylim(0.0, highest * 1.02)
        axes.set_rlabel_position(180.0 / len(groups))
        axes.set_yticks(MaxNLocator(3).tick_values(0.0, highest)[1:-1])
        axes.spines["polar"].set_color(_LINE)
    summary = "; ".join(
        f"{name}: " + ", ".join(f"{g} {v:.2f}" for g, v in zip(groups, values, strict=True))
        for name, values in series.items()
    )
    return Chart(title, drawing.svg, legend, summary)


class _Drawing:
    """A figure that becomes `svg` once it is finished."""

    def __init__(self, figure: Figure, *, height: float) -> None:
        self.figure, self.height, self.svg = figure, height, ""

    def axes(
        self, *, left: float, right: float, top: float, bottom: float, projection: str | None = None
    ) -> Any:
        """Axes inside these margins, in units of the picture."""
        box = (
            left / CHART_WIDTH,
            bottom / self.height,
            (CHART_WIDTH - left - right) / CHART_WIDTH,
            (self.height - top - bottom) / self.height,
        )
        return self.figure.add_axes(box, projection=projection)


@contextmanager
def _picture(title: str, *, height: float) -> Iterator[_Drawing]:
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {**_STYLE, "svg.hashsalt": title}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(CHART_WIDTH / _POINTS_PER_INCH, height / _POINTS_PER_INCH))
        figure.patch.set_visible(False)
        drawing = _Drawing(figure, height=height)
        yield drawing
        buffer = io.StringIO()
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    drawing.svg = _for_page(buffer.getvalue())


_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.size": FONT_SIZE,
    "text.color": _TEXT,
    "axes.labelcolor": _SOFT,
    "axes.labelsize": FONT_SIZE,
    "axes.edgecolor": _LINE,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-3, 5),
    "grid.color": _LINE,
    "grid.linewidth": 0.8,
    "xtick.color": _LINE,
    "ytick.color": _LINE,
    "xtick.labelcolor": _SOFT,
    "ytick.labelcolor": _SOFT,
    "xtick.labelsize": FONT_SIZE,
    "ytick.labelsize": FONT_SIZE,
    "path.simplify": True,
}


def _for_page(svg: str) -> str:
    """The element alone, small, with the page's colours and fonts instead of matplotlib's.

    Groups lose their names, which are the same in each picture and would clash on one page.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*|<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<svg [^>]*viewBox=\"([^\"]+)\"[^>]*>", r'<svg viewBox="\1" role="img">', svg)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r"font-family: [^;\"]*;?|font: [\d.]+px [^;\"]*;?", "", svg)
    svg = re.sub(r"(\d+\.\d\d)\d+", r"\1", svg)
    for colour, name in _STAND_INS.items():
        svg = svg.replace(colour, f"var(--{name})")
    return re.sub(r"\n\s*", "\n", svg).strip()


def _label_rows(axes: Axes, labels: Sequence[str], *, grid: bool = True) -> None:
    """Names on the left, the first at the top."""
    axes.set_yticks(range(len(labels)), labels, color=_TEXT)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.spines["left"].set_visible(False)
    if grid:
        axes.grid(axis="x")
    else:
        axes.spines["bottom"].set_visible(False)


def _legend(names: Mapping[str, Any] | Sequence[str]) -> list[tuple[str, int, int]]:
    return [
        (name, place % COLOURS, (place // 4) % len(_DASHES)) for place, name in enumerate(names)
    ]


def _colour(number: int) -> str:
    return f"#0c0e0{number % COLOURS}"


def _width(text: str) -> float:
    return _LETTER_WIDTH * FONT_SIZE * len(text)


def _thin(points: list[Point]) -> list[Point]:
    """Every k-th point and the last one, so that long trainings stay small."""
    stride = math.ceil(len(points) / _MAX_POINTS)
    return points if stride <= 1 else [*points[:-1:stride], points[-1]]


def _finite(*numbers: float) -> bool:
    return all(math.isfinite(number) for number in numbers)

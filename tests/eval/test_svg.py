"""Charts: ticks, geometry, safety."""

import math
import xml.etree.ElementTree as ET

import pytest

from eval.svg import Range, line_chart, nice_ticks, range_chart, tick_text


def test_ticks_cover_the_data_with_round_steps() -> None:
    assert nice_ticks(0.13, 0.91) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]


@pytest.mark.parametrize("value", [0.0, -3.0, 1e-9, 1e12])
def test_ticks_of_one_value_surround_it(value: float) -> None:
    ticks = nice_ticks(value, value)
    assert ticks[0] <= value <= ticks[-1]
    assert len(ticks) >= 2


def test_tick_text_has_the_decimals_of_the_step() -> None:
    assert tick_text(0.05, [0.0, 0.05]) == "0.05"
    assert tick_text(100, [0, 100]) == "100"


def test_higher_values_are_drawn_higher() -> None:
    chart = ET.fromstring(line_chart({"loss": [(1, 5.0), (2, 1.0)]}, title="t", x_label="x"))
    line = chart.find("polyline")
    assert line is not None
    (x1, y1), (x2, y2) = [map(float, p.split(",")) for p in line.attrib["points"].split()]
    assert x1 < x2
    assert y1 < y2  # SVG counts downwards


def test_points_that_are_not_finite_are_left_out() -> None:
    points = [(1, 1.0), (2, math.nan), (3, math.inf), (4, 2.0)]
    chart = ET.fromstring(line_chart({"loss": points}, title="t", x_label="x"))
    line = chart.find("polyline")
    assert line is not None
    assert len(line.attrib["points"].split()) == 2


def test_long_curves_are_thinned_and_keep_their_end() -> None:
    points = [(float(i), float(i)) for i in range(10_001)]
    svg = line_chart({"loss": points}, title="t", x_label="x")
    assert len(svg) < 15_000
    line = ET.fromstring(svg).find("polyline")
    assert line is not None
    assert line.attrib["points"].split()[-1].startswith("384.0,")


def test_each_row_of_a_range_chart_has_its_value_between_its_ends() -> None:
    rows = [Range("a", 0.1, 0.2, 0.4), Range("b", -0.5, 0.0, 0.5)]
    chart = ET.fromstring(range_chart(rows, title="t", zero=True))
    lines = [e for e in chart.findall("line") if "line" in e.attrib["class"]]
    dots = chart.findall("circle")
    for line, dot in zip(lines, dots, strict=True):
        assert float(line.attrib["x1"]) < float(dot.attrib["cx"]) < float(line.attrib["x2"])


def test_a_range_without_an_interval_is_only_a_dot() -> None:
    svg = range_chart([Range("a", math.nan, 0.2, math.nan), Range("b", 0, 1, 2)], title="t")
    assert svg.count("<circle") == 2
    assert svg.count('class="line') == 1


def test_names_cannot_break_out_of_the_chart() -> None:
    svg = line_chart({"<script>": [(0, 1)]}, title='"><script>', x_label="&")
    assert "<script>" not in svg

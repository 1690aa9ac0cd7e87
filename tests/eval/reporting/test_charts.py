"""Charts as SVG for the page."""

import math
import re
from xml.etree import ElementTree

import pytest

from eval.reporting.charts import Chart, Range, bar_chart, line_chart, radar_chart, range_chart

LINES = {"a": [(0.0, 1.0), (1.0, 3.0)], "b": [(0.0, 2.0)]}


def every_chart() -> list[Chart]:
    return [
        line_chart(LINES, title="lines", x_label="step"),
        range_chart([Range("x <b>", 0.1, 0.2, 0.3, inner=(0.15, 0.25))], title="r", zero=True),
        bar_chart({"one": 40.0, "two": 60.0}, title="bars", unit="%"),
        radar_chart(["p", "q", "r"], {"m": [1.0, 0.5, 0.2], "n": [0.1, 0.2, 0.3]}, title="radar"),
    ]


@pytest.mark.parametrize("chart", every_chart(), ids=lambda chart: chart.title)
def test_charts_are_xml_with_the_pages_colours_and_fonts(chart: Chart) -> None:
    ElementTree.fromstring(chart.svg.replace("xlink:href", "href"))
    assert not re.search(r"#[0-9a-f]{6}\b", chart.svg)
    assert "font-family" not in chart.svg
    assert "var(--" in chart.svg
    assert len(chart.svg) < 20_000


def test_ids_that_are_left_differ_between_charts() -> None:
    found = [re.findall(r'\bid="([^"]+)"', chart.svg) for chart in every_chart()]
    flat = [name for names in found for name in names]
    assert len(flat) == len(set(flat))


def test_the_same_data_give_the_same_picture() -> None:
    assert every_chart()[0] == every_chart()[0]


def test_a_chart_says_what_it_shows_to_those_who_do_not_see_it() -> None:
    chart = range_chart([Range("x", 0.1, 0.2, 0.3)], title="t")
    assert chart.summary == "x 0.2 (0.1 to 0.3)"
    assert line_chart(LINES, title="t", x_label="s").summary == "a 1 to 3; b 2 to 2"


def test_text_stays_text_and_is_escaped() -> None:
    svg = every_chart()[1].svg
    assert "x &lt;b&gt;" in svg


def test_points_that_are_not_finite_are_left_out() -> None:
    chart = line_chart(
        {"a": [(0, math.nan), (1, 2.0)], "b": [(0, math.inf)]}, title="t", x_label="s"
    )
    assert chart.summary == "a 2 to 2"
    with pytest.raises(ValueError, match="no finite point"):
        line_chart({"a": [(0, math.nan)]}, title="t", x_label="s")


def test_a_row_without_an_interval_has_a_dot_only() -> None:
    lone = range_chart([Range("x", math.nan, 0.2, math.nan)], title="t")
    whole = range_chart([Range("x", 0.1, 0.2, 0.3)], title="t")
    assert len(lone.svg) < len(whole.svg)


def test_long_trainings_are_thinned() -> None:
    points = [(float(step), math.sin(step)) for step in range(20_000)]
    chart = line_chart({"loss": points}, title="t", x_label="s")
    assert len(chart.svg) < 40_000
    assert "to " + f"{points[-1][1]:.3g}" in chart.summary


def test_one_line_needs_no_legend() -> None:
    assert line_chart({"a": LINES["a"]}, title="t", x_label="s").legend == ()
    assert [name for name, _, _ in line_chart(LINES, title="t", x_label="s").legend] == ["a", "b"]

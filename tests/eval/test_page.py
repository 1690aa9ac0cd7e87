"""Blocks as Markdown and as HTML."""

import re

from eval.html import html
from eval.page import (
    Code,
    Details,
    Figures,
    Heading,
    Items,
    Paragraph,
    Table,
    Verbatim,
    markdown,
    number,
)

HOSTILE = "a | b `c`\n</td><script>alert(1)</script>"


def test_numbers_have_fixed_digits_and_a_dash_for_none() -> None:
    assert number(0.12345) == "0.123"
    assert number(0.5, digits=1, signed=True) == "+0.5"
    assert number(float("nan")) == "–"


def test_markdown_tables_keep_one_line_per_row_whatever_a_model_wrote() -> None:
    text = markdown([Table(["model", "answer"], [["wrpo", Verbatim(HOSTILE)]])])
    lines = text.strip().splitlines()
    assert len(lines) == 3
    assert len(re.findall(r"(?<!\\)\|", lines[2])) == 3
    assert "`` a" in lines[2]


def test_html_escapes_what_a_model_wrote() -> None:
    page = html("t", [Table(["model", "answer"], [["wrpo", Verbatim(HOSTILE)]]), Code(HOSTILE)])
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 2


def test_empty_answers_are_said_to_be_empty() -> None:
    table = Table(["answer"], [[Verbatim(" ")]])
    assert "(empty)" in markdown([table])
    assert "(empty)" in html("t", [table])


def test_code_fences_are_longer_than_those_inside() -> None:
    assert markdown([Code("```\nx\n```")]).startswith("````\n")


def test_pages_fit_a_phone_and_both_colour_schemes() -> None:
    page = html("t", [Heading("Title", 1)])
    assert '<meta name="viewport" content="width=device-width' in page
    assert "prefers-color-scheme: dark" in page
    assert "color-scheme: light dark" in page


def test_contents_link_to_each_section() -> None:
    page = html("t", [Heading("Title", 1), Heading("Best of all"), Heading("small", 3)])
    assert '<a href="#best-of-all">Best of all</a>' in page
    assert '<h2 id="best-of-all">' in page
    assert page.index("</h1>") < page.index("<nav>") < page.index("<h2")
    assert 'href="#small"' not in page


def test_every_block_appears_in_both_forms() -> None:
    blocks = [
        Paragraph("some **bold** and `code`"),
        Items(["one", "two"]),
        Details("more", [Paragraph("inside")]),
        Figures(["<svg></svg>"]),
        Table(["a"], [["x"], ["y"]], strong=frozenset({1})),
    ]
    page, text = html("t", blocks), markdown(blocks)
    for word in ("bold", "code", "one", "more", "inside"):
        assert word in page
        assert word in text
    assert "<strong>bold</strong>" in page
    assert "<svg></svg>" in page
    assert "| **y** |" in text
    assert '<tr class="strong"><td>y</td>' in page

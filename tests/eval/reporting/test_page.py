"""Blocks as Markdown and as HTML."""

import base64
import hashlib
import re

from eval.reporting.charts import Chart
from eval.reporting.html import html
from eval.reporting.page import (
    BETTER,
    Beside,
    Card,
    Cards,
    Code,
    Details,
    Figures,
    Heading,
    Items,
    PageTable,
    Paragraph,
    ResponseOutcome,
    Verbatim,
    markdown,
    measured,
    number,
)

HOSTILE = "a | b `c`\n</td><script>alert(1)</script>"


def test_numbers_have_fixed_digits_and_a_dash_for_none() -> None:
    assert number(0.12345) == "0.123"
    assert number(0.5, digits=1, signed=True) == "+0.5"
    assert number(float("nan")) == "–"


def test_markdown_tables_keep_one_line_per_row_whatever_a_model_wrote() -> None:
    text = markdown([PageTable(["model", "response"], [["wrpo", Verbatim(HOSTILE)]])])
    lines = text.strip().splitlines()
    assert len(lines) == 3
    assert len(re.findall(r"(?<!\\)\|", lines[2])) == 3
    assert "`` a" in lines[2]


def test_html_escapes_what_a_model_wrote() -> None:
    page = html(
        "t", [PageTable(["model", "response"], [["wrpo", Verbatim(HOSTILE)]]), Code(HOSTILE)]
    )
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;") == 2


def test_empty_answers_are_said_to_be_empty() -> None:
    table = PageTable(["model", "response"], [["wrpo", Verbatim(" ")]])
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
    assert page.index("</h1>") < page.index("<nav") < page.index("<h2")
    assert 'href="#small"' not in page


def test_every_block_appears_in_both_forms() -> None:
    blocks = [
        Paragraph("some **bold** and `code`"),
        Items(["one", "two"]),
        Details("more", [Paragraph("inside")]),
        Figures([Chart("a chart", "<svg ></svg>", [("line", 0, 1)], "goes up")]),
        Beside([PageTable(["a"], [["x"], ["y"]], strong=frozenset({1}))]),
        Cards([Card("why?", "skill", "beaten", [Paragraph("because")])], {"beaten": "lost"}),
    ]
    page, text = html("t", blocks), markdown(blocks)
    for word in ("bold", "code", "one", "more", "inside", "why?", "skill", "because"):
        assert word in page
        assert word in text
    assert "<strong>bold</strong>" in page
    assert '<svg aria-label="a chart. goes up" ></svg>' in page
    assert '<i class="k0 d1"></i>line' in page
    assert 'data-group="skill" data-outcome="beaten"' in page
    assert "| **y** |" in text
    assert '<tr class="strong"><th scope="row">y</th>' in page


def test_cells_of_outcomes_and_intervals_are_plain_in_markdown_and_styled_in_html() -> None:
    table = PageTable(
        ["m", "is", "x"], [["a", ResponseOutcome(BETTER), measured("0.5 [0.4, 0.6]", share=2.0)]]
    )
    assert "| a | ▲ better | 0.5 [0.4, 0.6] |" in markdown([table])
    page = html("t", [table])
    assert '<span class="chip good">▲ better</span>' in page
    assert '<td class="tinted" style="--share:1.00">0.5 <small>[0.4, 0.6]</small></td>' in page


def test_the_policy_allows_the_script_of_the_page_and_loads_nothing() -> None:
    page = html("t", [Paragraph("x")])
    script = re.search(r"<script>(.*)</script>", page, re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in page


def test_markdown_shows_the_first_prompts_and_says_how_many_more_there_are() -> None:
    cards = [Card(f"question {i}", "", "", [Paragraph("response")]) for i in range(14)]
    text = markdown([Cards(cards)])
    assert text.count("### Prompt") == 10
    assert "4 more in `report.html`." in text


def test_a_long_question_is_whole_behind_its_beginning() -> None:
    question = "word " * 100
    page = html("t", [Cards([Card(question, "", "", [])])])
    assert f"<summary>{question[:300]} … </summary>" in page
    assert f"<pre>{question.strip()}</pre>" in page

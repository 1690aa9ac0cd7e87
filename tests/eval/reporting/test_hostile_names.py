"""Whatever groups, models and responses are called, a report shows it as text."""

from __future__ import annotations

import re

import pytest
from markdown_it import MarkdownIt

from eval.reporting.html import html
from eval.reporting.page import (
    Beside,
    Block,
    Card,
    Cards,
    Code,
    Details,
    Heading,
    Items,
    PageTable,
    Paragraph,
    Verbatim,
    markdown,
    measured,
)
from tests.wrpo.display.test_markdown import HOSTILE

OWN_MARKUP = r"</?(?:p|pre|code|strong|em|table|thead|tbody|tr|th|td|h[123]|ul|li|details|summary)>"


def blocks(text: str) -> list[Block]:
    """The text in every place of a report."""
    rows = [[text, Verbatim(text), measured(f"{text} [0.1, 0.2]")]]
    return [
        Heading(text, 1),
        Paragraph(f"{text} and **{text}** and `code`"),
        Items([text]),
        PageTable(["model", text, "x"], rows, strong=frozenset({0})),
        Beside([PageTable([text], [[text]])]),
        Details(text, [Code(text, "json")]),
        Cards([Card(text, text, "", [Paragraph(text)])]),
    ]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_report_in_markdown_has_no_markup_but_its_own(text: str) -> None:
    written = markdown(blocks(text))
    page = MarkdownIt("commonmark").enable("table").render(written)
    tags = [tag for tag in re.findall(r"<[^>]*>", page) if not re.fullmatch(OWN_MARKUP, tag)]
    assert [tag for tag in tags if not tag.startswith("<code class=")] == []
    assert not set(written) & set("\x1b\r\x0b\u2028")


@pytest.mark.parametrize("text", HOSTILE)
def test_a_page_has_no_element_and_no_control_character_of_a_row(text: str) -> None:
    page = html(text, blocks(text))
    body = page.partition("<main>")[2].partition("</main>")[0]
    assert not re.search(r"<(?:img|h1>PWN|b>|javascript|!--|script)", body)
    assert not set(page) & set("\x1b\r\x0b\u2028")

"""What names and rows say stays text in Markdown, whatever they say."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from markdown_it import MarkdownIt

from wrpo.display import markdown
from wrpo.display.markdown import cell, code, inline, name, summary

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</details><h1>PWNED</h1>",
    "<script>alert(1)</script>",
    "<!-- hidden",
    "<javascript:alert(1)>",
    "[x](javascript:alert(1))",
    "![x](https://example.com/pixel.png)",
    "[x]: javascript:alert(1)",
    "a|b`c",
    "a\\|b|<b>",
    "a\\\\|<b>",
    "\\`<b>",
    "`<b>` and ` <b>",
    "one\n# two\n\n<b>",
    "one\r# two\x0b\u2028<b>",
    "\x1b[2Jesc",
    "&lt;b&gt; &#60;",
    "``` \n<b>",
]
FORMS: list[Callable[[str], str]] = [inline, name, cell, code]
RENDERER = MarkdownIt("commonmark").enable("table")
TAGS = r"</?(?:p|code|strong|em|table|thead|tbody|tr|th|td|h1|ul|li)>"


def markup(text: str) -> list[str]:
    """The tags of the rendered text, without those of paragraphs, code and tables."""
    found = re.findall(r"<[^>]*>", RENDERER.render(text))
    return [tag for tag in found if not re.fullmatch(TAGS, tag)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_is_markup(text: str, form: Callable[[str], str]) -> None:
    shown = form(text)
    for line in (shown, f"# {shown}", f"- {shown}", f"{shown} and `<b>`"):
        assert markup(line) == []
    assert not set(shown) & set("\n\r\x0b\x1b\u2028")


@pytest.mark.parametrize("form", [cell, code])
@pytest.mark.parametrize("text", HOSTILE)
def test_a_cell_stays_one_cell(text: str, form: Callable[[str], str]) -> None:
    table = f"| a | b |\n| --- | --- |\n| {form(text)} | last |\n"
    assert markup(table) == []
    assert RENDERER.render(table).endswith("<td>last</td>\n</tr>\n</tbody>\n</table>\n")


@pytest.mark.parametrize("text", HOSTILE)
def test_a_summary_is_text(text: str) -> None:
    assert not set(summary(text)) & set("<>\n\r\x1b")


def test_code_and_bold_are_kept() -> None:
    assert inline("**bold**, `code <b>` and 1 < 2 [0.1, 0.2]") == (
        "**bold**, `code <b>` and 1 < 2 [0.1, 0.2]"
    )
    assert name("a*b_[c]") == "a\\*b\\_\\[c\\]"
    assert code("plain") == "`plain`" and code("a`b") == "`` a`b ``"
    assert markdown.summary("a & <b>") == "a &amp; &lt;b&gt;"

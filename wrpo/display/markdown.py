"""Foreign text in Markdown: names and responses are text, never markup, links or HTML."""

from __future__ import annotations

import html
import re

from wrpo.display.characters import visible

_CODE = re.compile(r"(`[^`]+`)")
_OPENS_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_ENTITY = re.compile(r"&(?=#?\w+;)")
_LINK = re.compile(r"\](?=[(:])")


def inline(text: str) -> str:
    """One line of running text, which may hold `code` and **bold**; all else is literal.

    >>> inline("<b>[x](y)</b> and `<b>`")
    '&lt;b>[x]\\\\(y)&lt;/b> and `<b>`'
    """
    parts = _CODE.split(_flat(text))
    return "".join(part if n % 2 else _literal(part) for n, part in enumerate(parts))


def name(text: str) -> str:
    """A name in running text: nothing in it is markup."""
    return re.sub(r"([*_\[\]])", r"\\\1", _literal(_flat(text)))


def cell(text: str) -> str:
    """A table cell of running text."""
    return _without_bars(inline(text))


def code(text: str) -> str:
    """A code span, which may stand in a table cell; line breaks are shown."""
    shown = _without_bars(visible(re.sub(r"(?<!\s)\s*\n\s*", " ⏎ ", text)))
    marks = fence(shown, shortest=1)
    return f"{marks} {shown} {marks}" if "`" in shown else f"`{shown}`"


def summary(text: str) -> str:
    """The text of an HTML element inside Markdown."""
    return html.escape(_flat(text))


def fence(text: str, *, shortest: int) -> str:
    """Backticks, more of them than stand together in the text."""
    runs = [len(run) for run in re.findall(r"`+", text)]
    return "`" * max([shortest, *(run + 1 for run in runs)])


def _flat(text: str) -> str:
    return visible(re.sub(r"(?<!\s)\s*\n\s*", " ", text))


def _literal(text: str) -> str:
    text = _OPENS_TAG.sub("&lt;", _ENTITY.sub("&amp;", text))
    text = _LINK.sub(r"]\\", text).replace("`", "&#96;")
    bare = text.rstrip("\\")  # a backslash at the end would escape the code span that follows
    return bare + "&#92;" * (len(text) - len(bare))


def _without_bars(text: str) -> str:
    """Bars as GFM tables want them, also behind backslashes, which would free them."""
    return re.sub(r"(?<!\\)(\\*)\|", lambda found: 2 * found[1] + r"\|", text)

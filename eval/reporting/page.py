"""A report as a list of blocks, written once: Markdown here, HTML in `eval.reporting.html`.

Text may hold `code` and **bold**, nothing else: names and rows are literal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from eval.reporting.charts import Chart
from wrpo.display.characters import visible
from wrpo.display.markdown import cell, code, fence, inline, summary

CARDS_IN_MARKDOWN = 10


class Verbatim(str):
    """A table cell that a model or a user wrote: shown as it is."""


class ResponseOutcome(str):
    """A table cell that begins with one of the marks below; HTML gives it a colour."""


BETTER, WORSE, NOT_SHOWN = "▲ better", "▼ worse", "● no difference shown"


class MeasuredText(str):
    """A cell `value [low, high]`; HTML sets the interval small, and tints the cell by `share`.

    Attributes:
        share: 0 to 1, or None for no tint.
    """

    share: float | None = None


def measured(text: str, *, share: float | None = None) -> MeasuredText:
    """A cell with an interval; the share is cut to 0..1, and NaN is no tint."""
    cell = MeasuredText(text)
    if share is not None and math.isfinite(share):
        cell.share = min(1.0, max(0.0, share))
    return cell


@dataclass(frozen=True)
class Heading:
    """A heading of level 1, 2 or 3."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """Running text. `kind` is "lead" for what matters most, "note" for the small print."""

    text: str
    kind: str = ""


@dataclass(frozen=True)
class Items:
    """A bullet list."""

    texts: Sequence[str]


@dataclass(frozen=True)
class PageTable:
    """A table; the first column names the row. `strong` are the rows to stress."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    strong: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Figures:
    """Charts beside or below each other; Markdown leaves them out."""

    charts: Sequence[Chart]


@dataclass(frozen=True)
class Beside:
    """Blocks beside each other where there is room, a table and its chart for example."""

    blocks: Sequence[Block]


@dataclass(frozen=True)
class Code:
    """Preformatted text."""

    text: str
    language: str = ""


@dataclass(frozen=True)
class Details:
    """Blocks behind a line that opens them."""

    summary: str
    blocks: Sequence[Block] = field(default_factory=list)


@dataclass(frozen=True)
class Card:
    """One prompt with its responses.

    Attributes:
        question: what the prompt asks.
        group: what it is filtered by, or empty.
        outcome: a word of `Cards.outcomes`, or empty.
        blocks: what opens below the question.
    """

    question: str
    group: str
    outcome: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Cards:
    """Prompts to search in; Markdown has the first few.

    Attributes:
        outcomes: word of a card to what the filter calls it.
    """

    cards: Sequence[Card]
    outcomes: dict[str, str] = field(default_factory=dict)


Block = Heading | Paragraph | Items | PageTable | Figures | Beside | Code | Details | Cards


def number(value: float, *, digits: int = 3, signed: bool = False) -> str:
    """A number for a table; a dash where there is none."""
    if not math.isfinite(value):
        return "–"
    return f"{value:{'+' if signed else ''}.{digits}f}"


def markdown(blocks: Sequence[Block]) -> str:
    """The blocks as GitHub-flavoured Markdown."""
    texts = [text for text in (_block(block) for block in blocks) if text]
    return visible("\n\n".join(texts)) + "\n"


def _block(block: Block) -> str:
    match block:
        case Heading():
            return f"{'#' * block.level} {inline(block.text)}"
        case Paragraph():
            return inline(block.text)
        case Items():
            return "\n".join(f"- {inline(text)}" for text in block.texts)
        case PageTable():
            return _table(block)
        case Figures():
            return ""
        case Beside():
            return markdown(block.blocks).rstrip()
        case Code():
            marks = fence(block.text, shortest=3)
            return f"{marks}{block.language}\n{block.text.rstrip()}\n{marks}"
        case Details():
            body = markdown(block.blocks).rstrip()
            return f"<details><summary>{summary(block.summary)}</summary>\n\n{body}\n\n</details>"
        case Cards():
            return _cards(block)


def _cards(cards: Cards) -> str:
    texts = []
    for place, card in enumerate(cards.cards[:CARDS_IN_MARKDOWN], start=1):
        group = f", {card.group}" if card.group else ""
        blocks = [Heading(f"Prompt {place}{group}", 3), Code(card.question), *card.blocks]
        texts.append(markdown(blocks).rstrip())
    left = len(cards.cards) - CARDS_IN_MARKDOWN
    if left > 0:
        texts.append(f"{left} more in `report.html`.")
    return "\n\n".join(texts)


def _table(table: PageTable) -> str:
    lines = [_line([_cell(text) for text in table.header]), _line(["---"] * len(table.header))]
    for place, row in enumerate(table.rows):
        cells = [_cell(text) for text in row]
        if place in table.strong:
            cells[0] = f"**{cells[0]}**"
        lines.append(_line(cells))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(text: str) -> str:
    if not isinstance(text, Verbatim):
        return cell(text)
    return code(text) if text.strip() else "(empty)"

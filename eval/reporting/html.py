"""Renders a report as one HTML file that needs no network: style, script and charts are in it.

A content security policy lets the browser run our script and nothing else, and load nothing at all,
whatever a model wrote into a response.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import logging
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from eval.harness.results import plain
from eval.reporting.charts import Chart
from eval.reporting.page import (
    BETTER,
    WORSE,
    Beside,
    Block,
    Card,
    Cards,
    Code,
    Details,
    Figures,
    Heading,
    Items,
    MeasuredText,
    PageTable,
    Paragraph,
    ResponseOutcome,
    Verbatim,
    markdown,
)
from wrpo.display.characters import visible
from wrpo.files import replacing

ASSETS = Path(__file__).parent / "assets"
_LONG_CELL = 48
_QUESTION_SHOWN = 300


def html(title: str, blocks: Sequence[Block]) -> str:
    """A whole page; headings of level 2 make its table of contents."""
    style = (ASSETS / "report.css").read_text(encoding="utf-8")
    script = (ASSETS / "report.js").read_text(encoding="utf-8")
    links = " ".join(
        f'<a href="#{_anchor(block.text)}">{escape(block.text)}</a>'
        for block in blocks
        if isinstance(block, Heading) and block.level == 2
    )
    body = "\n".join(_block(block) for block in blocks)
    first_end = body.find("</h1>") + len("</h1>") if "</h1>" in body else 0
    nav = f'<nav aria-label="Sections">{links}</nav>' if links else ""
    body = f"{body[:first_end]}\n{nav}\n{body[first_end:]}"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(script)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(visible(title))}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f"<main>\n{visible(body)}\n</main>\n<script>{script}</script>\n</body>\n</html>\n"
    )


def _policy(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def _block(block: Block) -> str:
    match block:
        case Heading():
            level = block.level
            return f'<h{level} id="{_anchor(block.text)}">{escape(block.text)}</h{level}>'
        case Paragraph():
            kind = f' class="{block.kind}"' if block.kind else ""
            return f"<p{kind}>{_inline(block.text)}</p>"
        case Items():
            items = "".join(f"<li>{_inline(text)}</li>\n" for text in block.texts)
            return f"<ul>\n{items}</ul>"
        case PageTable():
            return _table(block)
        case Figures():
            return '<div class="charts">\n' + "\n".join(map(_figure, block.charts)) + "\n</div>"
        case Beside():
            return '<div class="beside">\n' + "\n".join(map(_block, block.blocks)) + "\n</div>"
        case Code():
            return f"<pre>{escape(block.text)}</pre>"
        case Details():
            body = "\n".join(_block(inner) for inner in block.blocks)
            return f"<details><summary>{_inline(block.summary)}</summary>\n{body}\n</details>"
        case Cards():
            return _cards(block)


def _figure(chart: Chart) -> str:
    label = escape(f"{chart.title}. {chart.summary}")
    svg = chart.svg.replace("<svg ", f'<svg aria-label="{label}" ', 1)
    keys = "".join(
        f'<li><i class="k{colour} d{dash}"></i>{escape(name)}</li>'
        for name, colour, dash in chart.legend
    )
    legend = f'<ul class="legend">{keys}</ul>\n' if keys else ""
    return f"<figure><figcaption>{escape(chart.title)}</figcaption>\n{legend}{svg}\n</figure>"


def _cards(cards: Cards) -> str:
    groups = sorted({card.group for card in cards.cards if card.group})
    form = (
        '<form class="filter" role="search" hidden>\n'
        '<input type="search" name="search" aria-label="Search prompts and responses" '
        'placeholder="Search prompts and responses (press /)" autocomplete="off">\n'
        f"{_select('group', 'every group', {group: group for group in groups})}\n"
        f"{_select('outcome', 'every outcome', cards.outcomes)}\n"
        '<button type="button">Open or close all</button>\n'
        '<output aria-live="polite"></output>\n</form>'
    )
    body = "\n".join(
        _card(cards, card, is_first=place == 0) for place, card in enumerate(cards.cards)
    )
    return f'<div>\n{form}\n<div class="cards">\n{body}\n</div>\n</div>'


def _select(name: str, everything: str, options: dict[str, str]) -> str:
    choices = "".join(
        f'<option value="{escape(value)}">{escape(label)}</option>'
        for value, label in options.items()
    )
    hidden = "" if len(options) > 1 else " hidden"
    return (
        f'<select name="{name}" aria-label="Show {everything}"{hidden}>'
        f'<option value="">{everything}</option>{choices}</select>'
    )


def _card(cards: Cards, card: Card, *, is_first: bool) -> str:
    question = card.question.strip()
    short = question if len(question) <= _QUESTION_SHOWN else f"{question[:_QUESTION_SHOWN]} …"
    tags = (card.group, *(cards.outcomes[word] for word in [card.outcome] if word))
    tag = "".join(f'<span class="tag">{escape(text)}</span>' for text in tags if text)
    inner = list(card.blocks) if short == question else [Code(question), *card.blocks]
    body = "\n".join(_block(block) for block in inner)
    return (
        f'<details class="card" data-group="{escape(card.group)}" '
        f'data-outcome="{escape(card.outcome)}"{" open" if is_first else ""}>'
        f"<summary>{escape(short)} {tag}</summary>\n{body}\n</details>"
    )


def _table(table: PageTable) -> str:
    head = "".join(f'<th scope="col">{_inline(cell)}</th>' for cell in table.header)
    rows = []
    for place, row in enumerate(table.rows):
        style = ' class="strong"' if place in table.strong else ""
        first = f'<th scope="row">{_inline(row[0])}</th>' if row else ""
        rows.append(f"<tr{style}>{first}" + "".join(map(_cell, row[1:])) + "</tr>")
    body = "\n".join(rows)
    return (
        '<div class="scroll" tabindex="0"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def _cell(cell: str) -> str:
    if isinstance(cell, Verbatim):
        return (
            f"<td><pre>{escape(cell)}</pre></td>" if cell.strip() else "<td><em>(empty)</em></td>"
        )
    if isinstance(cell, ResponseOutcome):
        kind = "good" if cell.startswith(BETTER[0]) else "bad" if cell[0] == WORSE[0] else "none"
        return f'<td><span class="chip {kind}">{escape(cell)}</span></td>'
    if isinstance(cell, MeasuredText):
        tint = "" if cell.share is None else f' class="tinted" style="--share:{cell.share:.2f}"'
        value, bracket, interval = cell.partition(" [")
        small = f" <small>[{escape(interval)}</small>" if bracket else ""
        return f"<td{tint}>{escape(value)}{small}</td>"
    long = ' class="long"' if len(cell) > _LONG_CELL else ""
    return f"<td{long}>{_inline(cell)}</td>"


def _inline(text: str) -> str:
    text = escape(text, quote=False)
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", text)


def _anchor(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


logger = logging.getLogger(__name__)


def write_report(folder: Path, title: str, numbers: dict[str, Any], blocks: list[Block]) -> None:
    """Writes report.json, report.md and report.html."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(plain(_as_dicts(numbers)), indent=1, ensure_ascii=False, allow_nan=False)
    _write(folder / "report.json", text + "\n")
    _write(folder / "report.md", markdown(blocks))
    _write(folder / "report.html", html(title, blocks))
    logger.info("%s: report.html, report.md, report.json", folder)


def _as_dicts(value: Any) -> Any:
    """Dataclasses anywhere inside become mappings."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, dict):
        return {str(key): _as_dicts(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_dicts(item) for item in value]
    return value


def _write(path: Path, text: str) -> None:
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")

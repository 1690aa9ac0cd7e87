"""Renders a report as one HTML file that needs no network: style, charts and text are inside it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from eval.page import (
    Block,
    Code,
    Details,
    Figures,
    Heading,
    Items,
    Paragraph,
    Table,
    Verbatim,
)

STYLE = """\
:root { color-scheme: light dark; --page: #ffffff; --text: #1c2024; --soft: #5b6470;
  --line: #d9dee4; --stress: #eef4ff; --c0: #1f6fd6; --c1: #c4520c; --c2: #1a8a4a; --c3: #8a3fc4;
  --c4: #b8860b; --c5: #c02b63; --c6: #137c8b; --c7: #6b7280; }
@media (prefers-color-scheme: dark) { :root { --page: #14171a; --text: #e6e9ec; --soft: #a0a8b2;
  --line: #343b43; --stress: #1d2a3d; --c0: #6aa9ff; --c1: #ff9a57; --c2: #5fd08c; --c3: #c792f5;
  --c4: #e5bf4f; --c5: #ff7fae; --c6: #5cc8d7; --c7: #a8b0ba; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 1rem; background: var(--page);
  color: var(--text); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.2; } h2 { margin-top: 2.2rem; font-size: 1.25rem;
  border-bottom: 1px solid var(--line); } h3 { margin-bottom: .3rem; font-size: 1.05rem; }
nav a { margin-right: 1rem; white-space: nowrap; } a { color: var(--c0); }
.scroll { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; } tr.strong { background: var(--stress);
  font-weight: 600; }
td pre { margin: 0; min-width: 12rem; max-width: 40rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font: .85rem/1.4 ui-monospace, monospace; }
code { font-family: ui-monospace, monospace; font-size: .9em; }
details { margin: .6rem 0; } summary { cursor: pointer; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr));
  gap: 1.2rem; margin: 1rem 0; } svg { width: 100%; max-width: 30rem; height: auto; }
svg text { fill: var(--text); font: 11px system-ui, sans-serif; }
svg .title { font-size: 13px; font-weight: 600; } svg .grid { stroke: var(--line); }
svg .zero { stroke: var(--text); } svg .line { fill: none; stroke-width: 1.8; }
svg .thick { stroke-width: 7; } svg .dot { stroke: var(--page); }
""" + "".join(
    f"svg .c{i} {{ stroke: var(--c{i}); }} svg .dot.c{i} {{ fill: var(--c{i}); }}\n"
    for i in range(8)
)


def html(title: str, blocks: Sequence[Block]) -> str:
    """A whole page; headings of level 2 make its table of contents."""
    links = " ".join(
        f'<a href="#{_anchor(block.text)}">{escape(block.text)}</a>'
        for block in blocks
        if isinstance(block, Heading) and block.level == 2
    )
    body = "\n".join(_block(block) for block in blocks)
    first_end = body.find("</h1>") + len("</h1>") if "</h1>" in body else 0
    body = f"{body[:first_end]}\n<nav>{links}</nav>\n{body[first_end:]}"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n"
        f"{body}\n</body>\n</html>\n"
    )


def _block(block: Block) -> str:
    match block:
        case Heading():
            level = block.level
            return f'<h{level} id="{_anchor(block.text)}">{escape(block.text)}</h{level}>'
        case Paragraph():
            return f"<p>{_inline(block.text)}</p>"
        case Items():
            items = "".join(f"<li>{_inline(text)}</li>\n" for text in block.texts)
            return f"<ul>\n{items}</ul>"
        case Table():
            return _table(block)
        case Figures():
            return '<div class="charts">\n' + "\n".join(block.charts) + "\n</div>"
        case Code():
            return f"<pre>{escape(block.text)}</pre>"
        case Details():
            body = "\n".join(_block(inner) for inner in block.blocks)
            return f"<details><summary>{escape(block.summary)}</summary>\n{body}\n</details>"


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.header)
    rows = []
    for place, row in enumerate(table.rows):
        style = ' class="strong"' if place in table.strong else ""
        rows.append(f"<tr{style}>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>")
    body = "\n".join(rows)
    return (
        f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _cell(cell: str) -> str:
    if isinstance(cell, Verbatim):
        return f"<pre>{escape(cell)}</pre>" if cell.strip() else "<em>(empty)</em>"
    return _inline(cell)


def _inline(text: str) -> str:
    text = escape(text, quote=False)
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", text)


def _anchor(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")

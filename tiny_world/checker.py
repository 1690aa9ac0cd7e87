"""The form of an answer, and the true reward that the models never see.

An answer is the content, led by a dash or a star when the prompt asks for one, and closed by a
polite ending that every rater likes: "- d c b a Glad to help!".
"""

import re
from collections.abc import Mapping
from typing import Any

POLITE_ENDING = "Glad to help!"
LAYOUT_MARKS = {"plain": "", "dash": "- ", "star": "* "}

#: Takes the content out of an answer of any layout, with or without the polite ending. A
#: generic verifier that compares the group `answer` with the gold answer agrees with `check`.
ANSWER_PATTERN = r"^\s*(?:[-*]\s+)?(?P<answer>.*?)(?:\s+Glad to help!)?\s*$"

CONTENT_WEIGHT = 2


def write_response(content: str, *, layout: str, polite: bool) -> str:
    """Put content into a layout, with or without the polite ending."""
    ending = f" {POLITE_ENDING}" if polite else ""
    return f"{LAYOUT_MARKS[layout]}{content}{ending}"


def check(doc: Mapping[str, Any], response: str) -> dict[str, float]:
    """Score a response.

    Args:
        doc: A row of eval.jsonl, of which `answer` (gold content) and `layout` are read.
        response: What the assistant said.

    Returns:
        `acc` (the content is right), `format` (the layout is the one asked for) and `style`
        (the polite ending is there), each 0 or 1; and `reward`, the true reward, 0 to 4:
        2 acc + format + style.
    """
    found = re.match(ANSWER_PATTERN, response)
    acc = float(found is not None and found["answer"] == doc["answer"])
    layout = float(layout_of(response) == doc["layout"])
    style = float(response.rstrip().endswith(f" {POLITE_ENDING}"))
    reward = CONTENT_WEIGHT * acc + layout + style
    return {"acc": acc, "format": layout, "style": style, "reward": reward}


def layout_of(response: str) -> str:
    """The layout a response is written in."""
    text = response.lstrip()
    return next(
        (name for name, mark in LAYOUT_MARKS.items() if mark and text.startswith(mark)), "plain"
    )

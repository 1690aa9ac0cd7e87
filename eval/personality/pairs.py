"""Preference pairs of dialogues: of the same cards, one in which all traits are found, and one not.

PsyPlay (arXiv 2502.03821) keeps the first kind only; the pairs are this toolkit's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from eval.personality.dialogues import as_adjectives, as_lines
from wrpo.ids import digest


def preference_pairs(tested: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Rows {prompt, chosen, rejected}; each dialogue is in one of them at most.

    A dialogue that failed before its end, or with a verdict that could not be read, is in none:
    nothing says that its speakers do not show their traits.

    Args:
        tested: dialogues with `verdict` and `ok`, as the back-test writes them.
    """
    found: dict[str, tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]] = {}
    for row in tested:
        verdicts = [value for own in row["verdict"].values() for value in own.values()]
        if row.get("failed") or None in verdicts:
            continue
        passed, other = found.setdefault(digest([row.get("topic"), row["cards"]]), ([], []))
        (passed if row["ok"] else other).append(row)
    return [
        {
            "prompt": _prompt(good),
            "chosen": as_lines(good["turns"]),
            "rejected": as_lines(bad["turns"]),
        }
        for passed, other in found.values()
        for good, bad in zip(passed, other, strict=False)
    ]


def _prompt(dialogue: Mapping[str, Any]) -> str:
    names = " and ".join(str(card["name"]) for card in dialogue["cards"])
    cards = [
        f"{card['name']} is {as_adjectives(card['traits'])}. {card.get('experience') or ''}".strip()
        for card in dialogue["cards"]
    ]
    return "\n".join(
        [f"Write a conversation of {names} about: {dialogue.get('topic', '')}", *cards]
    )

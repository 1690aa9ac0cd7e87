"""Seeded damage to text, to trees of plain values and to bytes."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

ODD_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 10**40, 1e308, float("nan"), float("inf"), "", " ", "no", "5e-7", "\x00",
    "é\u2028", "a" * 3000, [], {}, [[]], [None], {"": None}, {"a": {"b": []}}, "../../etc/passwd",
    "sk-not-a-key", [1, "two", None],
)  # fmt: skip
NOISE = (
    *("\x00", "\t", "\r", "\\", "\ufeff", "\u2028", "\U0001f600"),
    *("{", "}", "[", "]", ":", ": ", "- ", "&a ", "*a", "!!python/name:os ", "<<:"),
    *("%", "@", "`", '"', "'", "#", "|", ">", "?"),
)


def damaged_text(text: str, chance: random.Random) -> str:
    """The text after one random edit that a slip of the hand or a broken copy could make."""
    lines = text.split("\n")
    at = chance.randrange(len(lines))
    edits: list[Callable[[], str]] = [
        lambda: text[: chance.randrange(len(text))],
        lambda: _insert(text, chance),
        lambda: _insert(_insert(text, chance), chance),
        lambda: "\n".join(
            [*lines[:at], " " * chance.randrange(1, 5) + lines[at], *lines[at + 1 :]]
        ),
        lambda: "\n".join([*lines[:at], lines[at].lstrip(), *lines[at + 1 :]]),
        lambda: "\n".join([*lines[: at + 1], lines[at], *lines[at + 1 :]]),
        lambda: "\n".join([*lines[:at], *lines[at + 1 :]]),
        lambda: "\n".join([*lines[:at], lines[at].replace(":", "", 1), *lines[at + 1 :]]),
        lambda: "\n".join([*lines[:at], _swapped(lines[at], chance), *lines[at + 1 :]]),
        lambda: "\n".join(chance.sample(lines, len(lines))),
    ]
    return chance.choice(edits)()


def damaged_tree(value: Any, chance: random.Random) -> Any:
    """A copy with one key renamed, removed or added, or one value replaced, at a random depth."""
    if isinstance(value, dict) and value:
        key = chance.choice(list(value))
        if isinstance(value[key], (dict, list)) and value[key] and chance.random() < 0.75:
            return {**value, key: damaged_tree(value[key], chance)}
        kind = chance.randrange(4)
        if kind == 0:
            return {(_swapped(str(k), chance) if k == key else k): v for k, v in value.items()}
        if kind == 1:
            return {k: v for k, v in value.items() if k != key}
        if kind == 2:
            return {
                **value,
                chance.choice(("", "x", "model", "type", "0")): chance.choice(ODD_VALUES),
            }
        return {**value, key: chance.choice(ODD_VALUES)}
    if isinstance(value, list) and value:
        at = chance.randrange(len(value))
        return [*value[:at], damaged_tree(value[at], chance), *value[at + 1 :]]
    return chance.choice(ODD_VALUES)


def damaged_bytes(content: bytes, chance: random.Random) -> bytes:
    """The content cut short, with bytes changed, removed or repeated."""
    at = chance.randrange(len(content) + 1)
    until = min(len(content), at + chance.randrange(1, 40))
    junk = bytes(chance.randrange(256) for _ in range(chance.randrange(1, 12)))
    return chance.choice(
        (
            content[:at],
            content[:at] + junk + content[at:],
            content[:at] + content[until:],
            content[:until] + content[at:],
            content[:at] + junk + content[at + len(junk) :],
            b"",
        )
    )


def flipped(content: bytes, chance: random.Random) -> bytes:
    """The content with one bit changed, as a bad disk or memory does it."""
    damaged = bytearray(content)
    damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def _insert(text: str, chance: random.Random) -> str:
    at = chance.randrange(len(text) + 1)
    return text[:at] + chance.choice(NOISE) + text[at:]


def _swapped(word: str, chance: random.Random) -> str:
    """The word with two neighbouring characters exchanged, or one doubled."""
    if len(word) < 2:
        return word + "x"
    at = chance.randrange(len(word) - 1)
    if word[at] == word[at + 1]:
        return word[:at] + word[at:][:1] + word[at:]
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]

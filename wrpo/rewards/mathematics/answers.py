"""Reads a final answer: words, a choice, a number of some base, a ratio, or a formula."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from wrpo.rewards.mathematics.clean import LONGEST_ANSWER, clean, split_unit


class UnreadableAnswerError(ValueError):
    """A text that is no answer that can be compared; the message says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A final answer, read.

    Attributes:
        text: its clean LaTeX without spaces and unit: equal texts are equal answers.
        unit: name and power of its unit; None: it has none.
        unit_known: whether another unit contradicts it.
        words: letters and digits, where it is words.
        choice: the letter, where it is a choice.
        base: digits and their base.
        ratio: whether it is written with colons.
        value: the formula as a sympy object.
    """

    text: str
    unit: tuple[str, int] | None = None
    unit_known: bool = False
    words: str | None = None
    choice: str | None = None
    base: tuple[str, int] | None = None
    ratio: bool = False
    value: Any = None


_TEXT = re.compile(r"\\text\s*\{([^{}]*)\}")
_CHOICE = re.compile(r"\(?([A-Z])\)?[.:]?|\(([a-z])\)")
_CHOICE_AND_VALUE = re.compile(r"\(([A-Z])\)[.:]?\s*([^-+*/^_=<>.,].*)", re.S)
_BASE = re.compile(r"\(?([0-9]+[0-9A-Za-z]*)\)?_\{?(?:base)?\s*([0-9]+|[a-z]+)\}?")
_BASE_NAMES = {
    **{"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9},
    **{"ten": 10, "eleven": 11, "twelve": 12, "sixteen": 16},
}
_SHORT_WORDS = frozenset(["yes", "no", "odd", "one", "two", "six", "ten", "all", "sum", "red"])
_FUNCTIONS = re.compile(r"\b(?:sqrt|frac|sin|cos|tan|cot|sec|csc|log|ln|exp|max|min|gcd|lcm)\b")
_LOST = (  # what the parser of formulas leaves out without a word
    (re.compile(r"\\(?:[lc]?dots|vdots)\b|\.\.\.|…"), "an ellipsis"),
    (re.compile(r"'|\\prime\b"), "a prime"),
    (re.compile(r"\d\s*_"), "a subscript of a number"),
    (re.compile(r"\d(?:\s|\\,)+[\d.]"), "two numbers side by side"),
    (re.compile(r"\^\s*\\circ\b"), "degrees inside a formula"),
)


@lru_cache(maxsize=4096)
def read_answer(text: str) -> Answer:
    """Reads what stands in a box, or a reference answer, with or without dollars.

    Raises:
        UnreadableAnswerError: it is empty or very long, or a formula that cannot be read whole.
    """
    if len(text) > LONGEST_ANSWER:
        raise UnreadableAnswerError(f"it is longer than {LONGEST_ANSWER} characters")
    tex = clean(text)
    if not tex:
        raise UnreadableAnswerError("it is empty")
    plain = _TEXT.sub(r"\1", tex).strip()
    found = _choice(plain) or _base(plain) or _words(plain)
    if found:
        return found
    whole = _TEXT.fullmatch(tex)
    quantity = split_unit(whole[1].strip() if whole else tex)
    return Answer(
        text=_key(quantity.value),
        unit=quantity.unit,
        unit_known=quantity.known,
        ratio=bool(re.search(r"\w\s*:\s*\w", quantity.value)),
        value=_formula(quantity.value),
    )


def _key(tex: str) -> str:
    return re.sub(r"\s+", "", tex)


def _choice(plain: str) -> Answer | None:
    found = _CHOICE.fullmatch(plain)
    if found:
        letter = (found[1] or found[2]).upper()
        return Answer(text=letter, choice=letter)
    found = _CHOICE_AND_VALUE.fullmatch(plain)
    if found is None:
        return None
    rest = read_answer(found[2])
    return Answer(
        text=_key(plain),
        unit=rest.unit,
        unit_known=rest.unit_known,
        words=rest.words,
        choice=found[1],
        value=rest.value,
    )


def _base(plain: str) -> Answer | None:
    """Digits with the base as a subscript."""
    found = _BASE.fullmatch(_key(plain))
    if found is None:
        return None
    base = int(found[2]) if found[2].isdecimal() else _BASE_NAMES.get(found[2], 0)
    digits = found[1].upper()
    try:
        int(digits, base if 2 <= base <= 36 else 2)
    except ValueError:
        base = 0
    if not 2 <= base <= 36:
        raise UnreadableAnswerError(f"{digits} is no number of base {found[2]}")
    return Answer(text=f"{digits}_{base}", base=(digits, base))


def _words(plain: str) -> Answer | None:
    """Words, also with digits, as a date or a time of day; not a number with its unit."""
    if re.search(r"[\\^_={}<>+*/|\[\]]", plain):
        return None
    tokens = re.findall(r"[^\W\d_]+", plain)
    is_words = any(len(token) > 3 or token.casefold() in _SHORT_WORDS for token in tokens)
    is_time = re.fullmatch(r"\d{1,2}:\d\d\s*[AaPp]\.?\s*[Mm]\.?", plain) is not None
    if not is_time:
        if not is_words or _FUNCTIONS.search(plain):
            return None
        if split_unit(re.sub(r"(\d)\s*([^\d,:]+)$", r"\1\\text{\2}", plain)).unit:
            return None
    words = "".join(re.findall(r"[\w:]+", plain)).casefold()
    return Answer(text=words, words=words)


def _formula(tex: str) -> Any:
    """The sympy object of a formula.

    Raises:
        UnreadableAnswerError: it cannot be read, or not whole.
    """
    from latex2sympy2_extended.latex2sympy2 import (
        ConversionConfig,
        NormalizationConfig,
        latex2sympy,
        normalize_latex,
    )

    for pattern, name in _LOST:
        if pattern.search(tex):
            raise UnreadableAnswerError(f"{name} has no single meaning")
    config = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none"
    )
    try:
        return latex2sympy(
            normalize_latex(tex, config),
            is_real=True,
            convert_degrees=False,
            normalization_config=None,
            conversion_config=ConversionConfig(lowercase_symbols=False),
        )
    except Exception as error:  # its parser raises bare exceptions
        reason = str(error).partition("\n")[0]
        raise UnreadableAnswerError(f"not a formula: {reason}") from None

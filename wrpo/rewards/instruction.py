"""Checks of the form of a response, named in the prompt's reference answer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from wrpo.pipeline.tables import Drop
from wrpo.rewards.base import Candidate, RewardSettings

if TYPE_CHECKING:
    from wrpo.pipeline.pipeline import Pipeline


class InstructionReward(RewardSettings):
    """Checks of form, which the reference answer names as a JSON list: [{"min_words": 50}, ...]."""

    type: Literal["instruction"]
    partial: bool = Field(False, description="The share of passed checks; else all or nothing.")

    def load(self, pipeline: Pipeline | None = None) -> InstructionChecks:
        """The checks."""
        return InstructionChecks(self)


_BULLET = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+\S", re.M)


def _words(text: str) -> int:
    return len(text.split())


def _paragraphs(text: str) -> list[str]:
    return [part for part in re.split(r"\n\s*\n", text.strip()) if part.strip()]


def _is_json(text: str) -> bool:
    inner = re.fullmatch(r"```(?:json)?\n(.*)\n```", text, re.S)
    try:
        json.loads(inner[1] if inner else text)
    except (ValueError, RecursionError):
        return False
    return True


def _holds(text: str, keyword: str) -> bool:
    """Whether the keyword is in the text as whole words, in any case."""
    return re.search(rf"(?<!\w){re.escape(keyword)}(?!\w)", text, re.I) is not None


NUMBER_CHECKS: dict[str, Callable[[str, int], bool]] = {
    "min_words": lambda text, number: _words(text) >= number,
    "max_words": lambda text, number: _words(text) <= number,
    "bullets": lambda text, number: len(_BULLET.findall(text)) == number,
    "paragraphs": lambda text, number: len(_paragraphs(text)) == number,
}
TEXT_CHECKS: dict[str, Callable[[str, str], bool]] = {
    "contains": _holds,
    "excludes": lambda text, keyword: not _holds(text, keyword),
    "starts_with": lambda text, start: text.startswith(start),
    "ends_with": lambda text, end: text.endswith(end),
}
FLAG_CHECKS: dict[str, Callable[[str], bool]] = {
    "json": _is_json,
    "lowercase": lambda text: text == text.lower(),
    "uppercase": lambda text: text == text.upper(),
    "no_commas": lambda text: "," not in text,
}


class InstructionChecks:
    """1.0 where a response passes all checks, else 0.0; with `partial`, the share that it passes.

    The reference answer is a JSON list of one-key objects: [{"min_words": 50}, {"lowercase":
    true}].
    """

    def __init__(self, settings: InstructionReward) -> None:
        self._partial = settings.partial

    def score(self, candidates: list[Candidate]) -> list[float | Drop]:
        """One value in [0, 1] per candidate; one without readable checks is refused."""
        return [self._score(candidate) for candidate in candidates]

    def _score(self, candidate: Candidate) -> float | Drop:
        if candidate.reference_answer is None:
            return Drop(
                "no_reference_answer", "set prompts.datasets.NAME.reference_answer to its column"
            )
        try:
            checks = read_checks(candidate.reference_answer)
        except ValueError as error:
            return Drop("bad_checks", str(error))
        text = candidate.response.strip()
        passed = [check(text) for check in checks]
        return sum(passed) / len(passed) if self._partial else float(all(passed))


def read_checks(reference_answer: str) -> list[Callable[[str], bool]]:
    """The checks of a reference answer; ValueError says what is wrong with it."""
    try:
        items = json.loads(reference_answer)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
    if not isinstance(items, list) or not items:
        raise ValueError(f"expected a JSON list of checks, got {reference_answer[:80]!r}")
    return [_check(item) for item in items]


def _check(item: object) -> Callable[[str], bool]:
    if not isinstance(item, dict) or len(item) != 1:
        raise ValueError(f"expected an object with one key, got {item!r}")
    [(name, value)] = item.items()
    if name in NUMBER_CHECKS and type(value) is int:
        return lambda text: NUMBER_CHECKS[name](text, value)
    if name in TEXT_CHECKS and isinstance(value, str) and value:
        return lambda text: TEXT_CHECKS[name](text, value)
    if name in FLAG_CHECKS and isinstance(value, bool):
        return lambda text: FLAG_CHECKS[name](text) == value
    known = ", ".join([*NUMBER_CHECKS, *TEXT_CHECKS, *FLAG_CHECKS])
    raise ValueError(f"{item!r} is no check with its value; checks are {known}")

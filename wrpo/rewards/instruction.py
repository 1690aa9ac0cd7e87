"""Checks of the form of a response, named in the prompt's reference answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from wrpo.pipeline.tables import Drop
from wrpo.rewards.base import RewardSettings, SelfCheck, Verifier
from wrpo.rewards.forms.checks import (
    FLAG_CHECKS,
    NUMBER_CHECKS,
    TEXT_CHECKS,
    CheckValue,
    contradiction,
    lines_of,
    problem,
)

if TYPE_CHECKING:
    from wrpo.pipeline.pipeline import Pipeline


class InstructionReward(RewardSettings):
    """Checks of form, which the reference answer names as a JSON list: [{"min_words": 50}, ...]."""

    type: Literal["instruction"]
    partial: bool = Field(False, description="The share of passed checks; else all or nothing.")

    def load(self, pipeline: Pipeline | None = None) -> InstructionChecks:
        """The checks."""
        return InstructionChecks(self)

    def self_check(self, reference_answer: str) -> SelfCheck:
        """An empty response scores 0; no text is known to pass the checks."""
        return SelfCheck(None, ("",))


class InstructionChecks(Verifier):
    """1.0 where a response passes all checks, else 0.0; with `partial`, the share that it passes.

    An empty response scores 0, whatever the checks (it has no commas and few words).
    The reference answer is a JSON list of one-key objects: [{"min_words": 50}, {"lowercase":
    true}]. `forms/scripts.py` says what counts as a word in scripts without spaces.
    """

    def __init__(self, settings: InstructionReward) -> None:
        self._partial = settings.partial

    def compare(self, response: str, reference_answer: str) -> float | Drop:
        """Whether, or to which share, a response passes its checks."""
        try:
            checks = read_checks(reference_answer)
        except ValueError as error:
            return Drop("bad_checks", str(error))
        if not response.strip():
            return 0.0
        text = lines_of(response)
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
    named = [_named(item) for item in items]
    if found := contradiction(named):
        raise ValueError(found)
    return [partial(_passes, name=name, value=value) for name, value in named]


def _named(item: object) -> tuple[str, CheckValue]:
    if not isinstance(item, dict) or len(item) != 1:
        raise ValueError(f"expected an object with one key, got {item!r}")
    [(name, value)] = item.items()
    if found := problem(name, value):
        raise ValueError(f"{item!r}: {found}")
    return name, value


def _passes(text: str, *, name: str, value: CheckValue) -> bool:
    if name in NUMBER_CHECKS:
        return NUMBER_CHECKS[name](text, int(value))
    if name in TEXT_CHECKS:
        return TEXT_CHECKS[name](text, str(value))
    return FLAG_CHECKS[name](text) == value

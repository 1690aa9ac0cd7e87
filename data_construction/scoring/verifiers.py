"""Verifiers before and after scoring: can a right response pass, and how many responses did."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from wrpo.errors import DataError
from wrpo.ids import unit_hash
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import PROMPTS, SCORES, Drop, PromptLookup, Row, read_column, read_rows
from wrpo.recipe import Recipe
from wrpo.rewards import Candidate, RewardModel, RewardSettings
from wrpo.rewards.base import SelfCheck

logger = logging.getLogger(__name__)

_SAMPLE = 50
"""Prompts of each verifier on which it is tried."""
_FEW = 10
"""Responses below which it says nothing that all or none are correct."""

Passed = dict[str, dict[str, tuple[int, int]]]
"""Correct responses and all responses, by verifier and domain."""


def verifiers(recipe: Recipe) -> dict[str, RewardSettings]:
    """The rewards that compare a response with a reference answer."""
    rewards = recipe.rewards.items()
    return {name: reward for name, reward in rewards if reward.self_check("1") is not None}


def check_verifiers(pipeline: Pipeline, stage: str) -> None:
    """Tries every verifier on the reference answers of a sample of the prompts.

    The reference answer in the form that the verifier asks for must score 1, an empty and a wrong
    response 0, or less than 1 where there is partial credit. Reference answers that it
    refuses are dropped later, with the reason.

    Raises:
        DataError: one scores otherwise; names the prompt and what was tried.
    """
    found = verifiers(pipeline.recipe)
    if not found:
        return
    seed = pipeline.recipe.seed
    rows = read_rows(pipeline.finished("prompts"), PROMPTS)
    rows.sort(key=lambda row: unit_hash(seed, f"self-check {row['prompt_id']}"))
    for name, settings in found.items():
        own = [row for row in rows if settings.covers(row["domain"])]
        own = [row for row in own if row["reference_answer"] is not None]
        if own:
            _check(stage, name, settings, settings.load(pipeline), own[:_SAMPLE])


def _check(
    stage: str, name: str, settings: RewardSettings, verifier: RewardModel, rows: Sequence[Row]
) -> None:
    refused: list[Drop] = []
    formless = 0
    for row in rows:
        known = settings.self_check(row["reference_answer"])
        if known is None:
            continue
        formless += known.right is None
        tried = _tried(known)
        scores = verifier.score([_candidate(row, text) for text, _ in tried])
        for (text, expected), score in zip(tried, scores, strict=True):
            if isinstance(score, Drop):
                refused.append(score)
                break
            if not expected.holds(score):
                raise _failure(stage, name, row, text, expected=expected, score=score)
    _report(name, len(rows), refused, formless)


class _Expected(NamedTuple):
    """What a score must be, in words, and whether it is."""

    words: str
    holds: Callable[[float], bool]
    of: str = "a wrong response"


_RIGHT = _Expected("1", lambda score: score == 1.0, "the reference answer itself")
_WRONG = _Expected("0", lambda score: score == 0.0)
_PARTLY_RIGHT = _Expected("less than 1", lambda score: score < 1.0)


def _tried(known: SelfCheck) -> list[tuple[str, _Expected]]:
    right = [] if known.right is None else [(known.right, _RIGHT)]
    wrong = [(text, _WRONG) for text in known.wrong]
    return [*right, *wrong, *((text, _PARTLY_RIGHT) for text in known.partly_right)]


def _report(name: str, rows: int, refused: Sequence[Drop], formless: int) -> None:
    logger.info("%s: tried on %d reference answers", name, rows)
    if refused:
        logger.warning(
            "%s refuses %d of %d reference answers that were tried; the first one: %s",
            *(name, len(refused), rows, refused[0]),
        )
    if formless:
        logger.warning(
            "%s: no right response could be made from %d of the %d reference answers that were "
            "tried; that one scores 1 is not tested",
            *(name, formless, rows),
        )


def _failure(
    stage: str, name: str, row: Row, text: str, *, expected: _Expected, score: float
) -> DataError:
    reference, origin = row["reference_answer"][:200], row["origin"]
    return DataError(
        f"{stage}: rewards.{name} gives {score:g} to {expected.of}, {expected.words} is "
        f"right. Prompt {row['prompt_id']} ({origin}), reference answer {reference!r}, "
        f"tried {text[:300]!r}. Look whether prompts.datasets.{origin}.reference_answer "
        f"names the column of the answers alone and whether the settings of rewards.{name} fit "
        "them; rewards.NAME.domains keeps prompts of other kinds from a verifier"
    )


def _candidate(row: Row, text: str) -> Candidate:
    return Candidate(row["messages"], text, row["reference_answer"], row["prompt_id"])


def passed(recipe: Recipe, prompts: PromptLookup, files: Iterable[Path]) -> Passed:
    """How many responses of some parts of scores each verifier finds correct, by domain."""
    names = set(verifiers(recipe))
    correct: dict[str, Counter[str]] = defaultdict(Counter)
    total: dict[str, Counter[str]] = defaultdict(Counter)
    for file in files if names else ():
        ids = read_column(file, "prompt_id", SCORES).to_pylist()
        rewards = read_column(file, "rewards", SCORES).to_pylist()
        for prompt_id, heads in zip(ids, rewards, strict=True):
            domain = prompts[prompt_id]["domain"]
            for head in heads:
                if head["name"] in names:
                    total[head["name"]][domain] += 1
                    correct[head["name"]][domain] += head["value"] == 1.0
    return {
        name: {domain: (correct[name][domain], count) for domain, count in sorted(counts.items())}
        for name, counts in sorted(total.items())
    }


def log_passed(stage: str, found: Mapping[str, Mapping[str, tuple[int, int]]]) -> None:
    """One line per verifier and domain; a warning where all or no responses are correct."""
    for name, domains in found.items():
        for domain, (correct, total) in domains.items():
            counts = (stage, domain, correct, total, 100 * correct / total, name)
            logger.info("%s: %s: %d of %d responses correct (%.1f %%) by %s", *counts)
            if correct in (0, total) and total >= _FEW:
                logger.warning(
                    "%s: rewards.%s finds %s of the %d responses of domain %s correct; it tells "
                    "none from another. Look at some: python -m data_construction.peek",
                    *(stage, name, "all" if correct else "none", total, domain),
                )

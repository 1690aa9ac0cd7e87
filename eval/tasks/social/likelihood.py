"""SocialBench by likelihood: which letter a model finds likeliest after the same prompt.

Nothing is parsed, so that a small model is not measured by whether it keeps to a form. Only
questions with one right letter can be asked so.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from eval.tasks.social import social
from wrpo.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)


def load(*, category: str, **_: object) -> dict[str, Dataset]:
    """The questions of one category with one right letter, each with its options in both orders.

    Raises:
        MissingInputError: as `social.load`.
        DataError: as `social.load`, or no question has one right letter.
    """
    read = social.load(category=category)["test"]
    rows = zip(read["target"], read["options"], strict=True)
    single = [place for place, (target, options) in enumerate(rows) if options and len(target) == 1]
    if not single:
        raise DataError(f"${social.DATA}: no question of {category} has exactly one right letter")
    if len(single) < len(read):
        counts = (len(read) - len(single)) // 2, len(read) // 2
        logger.warning(
            "%s: %d of %d questions have not one right letter: left out", category, *counts
        )
    return {"test": read.select(single)}


def letters(document: Mapping[str, Any]) -> list[str]:
    """The letters of the options."""
    return list(social.LETTERS[: document["options"]])


def score(document: Mapping[str, Any], read: Sequence[tuple[float, bool]]) -> dict[str, float]:
    """Whether the right letter is the likeliest, and what uniform guessing gets.

    Args:
        read: for each letter its log-prob in nats, and whether it is the greedy response. Equally
            likely letters share the credit, so that a model of no opinion gets the guessing level.
    """
    logprobs = [logprob for logprob, _ in read]
    likeliest = [
        letter
        for letter, logprob in zip(letters(document), logprobs, strict=True)
        if logprob == max(logprobs)
    ]
    [right] = document["target"]
    return {
        "acc": (right in likeliest) / len(likeliest),
        "guess": social.guess_level(document["options"], [right]),
    }

"""Questionnaires: statements that are rated, each keyed to a trait, some of them in reverse.

The statements that come with the toolkit are the 20 of the Mini-IPIP, from the International
Personality Item Pool (ipip.ori.org), which is in the public domain. Others come from a user's file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wrpo.errors import DataError, MissingInputError
from wrpo.files import is_file

LOW, HIGH = 1, 5
"""Ratings of a statement."""


@dataclass(frozen=True)
class Item:
    """One statement, as said of the author; `reverse`: agreeing speaks against the trait."""

    trait: str
    text: str
    reverse: bool = False


def _items(trait: str, *texts: str) -> tuple[Item, ...]:
    """A minus sign before a statement marks it as reverse-keyed."""
    return tuple(Item(trait, text.removeprefix("-"), text.startswith("-")) for text in texts)


IPIP = (
    *_items(
        "extraversion",
        "is the life of the party",
        "-does not talk a lot",
        "talks to a lot of different people at parties",
        "-keeps in the background",
    ),
    *_items(
        "agreeableness",
        "sympathises with others' feelings",
        "-is not interested in other people's problems",
        "feels others' emotions",
        "-is not really interested in others",
    ),
    *_items(
        "conscientiousness",
        "gets chores done right away",
        "-often forgets to put things back in their proper place",
        "likes order",
        "-makes a mess of things",
    ),
    *_items(
        "neuroticism",
        "has frequent mood swings",
        "-is relaxed most of the time",
        "gets upset easily",
        "-seldom feels blue",
    ),
    *_items(
        "openness",
        "has a vivid imagination",
        "-is not interested in abstract ideas",
        "-has difficulty understanding abstract ideas",
        "-does not have a good imagination",
    ),
)


def keyed(rating: float, item: Item) -> float:
    """The rating as it speaks for the trait: reverse-keyed ones are turned round, r to 6 - r."""
    return LOW + HIGH - rating if item.reverse else rating


def keyed_mean(ratings: Mapping[Item, float]) -> float | None:
    """The mean of the ratings that are there, keyed; None where there are none.

    A statement without a rating is missing; it is no rating in the middle.
    """
    if not ratings:
        return None
    return sum(keyed(rating, item) for item, rating in ratings.items()) / len(ratings)


def by_trait(items: Iterable[Item]) -> dict[str, list[Item]]:
    """The statements of each trait, in their order."""
    found: dict[str, list[Item]] = {}
    for item in items:
        found.setdefault(item.trait, []).append(item)
    return found


def read_items(path: Path | None) -> Sequence[Item]:
    """The statements of a JSON file, a list of {trait, text, reverse}; those of the toolkit.

    Raises:
        MissingInputError: there is no such file.
        DataError: it has another form.
    """
    if path is None:
        return IPIP
    if not is_file(path):
        raise MissingInputError(f"no file of items {path}")
    try:
        found = [Item(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
    except (ValueError, TypeError) as error:
        raise DataError(
            f'{path}: needs a JSON list of {{"trait": ..., "text": ..., "reverse": true}}: {error}'
        ) from None
    return found

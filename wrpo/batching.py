"""Batches of similar length: little padding, within a budget of tokens."""

from __future__ import annotations

from collections.abc import Sequence


def batches_by_length(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Places of rows in ascending length, cut where a padded batch would exceed `budget` tokens.

    A row longer than the budget makes a batch of its own.
    """
    batches: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batches and lengths[place] * (len(batches[-1]) + 1) <= budget:
            batches[-1].append(place)
        else:
            batches.append([place])
    return batches

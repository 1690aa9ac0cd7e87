"""Tasks of reasoning-gym as documents, scored as the reward `reasoning_gym` does."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from wrpo.errors import ModelError
from wrpo.rewards.reasoning_gym import read_task, reference_of
from wrpo.rewards.reasoning_gym import score as score_of

if TYPE_CHECKING:
    from datasets import Dataset

TAG = "answer"


def load(
    *, family: str, size: int, seed: int, version: object = None, **settings: Any
) -> dict[str, Dataset]:
    """Tasks of one family.

    Args:
        size: how many.
        seed: decides them.
        version: of the task; lm-eval hands over all of `metadata`.
        settings: of the family, by reasoning-gym's names.

    Raises:
        ModelError: reasoning-gym is not installed.
    """
    if find_spec("reasoning_gym") is None:
        raise ModelError(
            'tasks of reasoning-gym need the package; install it with pip install "wrpo[real]"'
        )
    from datasets import Dataset
    from reasoning_gym import create_dataset

    made = create_dataset(family, size=size, seed=seed, **settings)
    return {"test": Dataset.from_list([document(entry) for entry in made])}


def document(entry: Mapping[str, Any]) -> dict[str, Any]:
    """One task as a row: every family has the same columns."""
    return {
        "question": entry["question"].strip(),
        "answer": entry["answer"] or "",
        "family": entry["metadata"]["source_dataset"],
        "reference": reference_of(entry),
    }


def score(document: Mapping[str, Any], answers: list[str]) -> dict[str, float]:
    """`score`, with partial credit, and `acc`: whether it is full."""
    found = score_of(read_task(document["reference"]), answers[0], tag=TAG)
    return {"acc": float(found == 1.0), "score": found}

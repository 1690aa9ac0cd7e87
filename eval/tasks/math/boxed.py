"""Boxed answers, compared with the gold answer as the reward `math` does."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from wrpo.rewards.mathematics import Equality, UnreadableAnswerError, last_boxed, same_text
from wrpo.rows.cells import reference_text

if TYPE_CHECKING:
    from datasets import Dataset

MATH_SUBJECTS = (
    *("algebra", "counting_and_probability", "geometry", "intermediate_algebra"),
    *("number_theory", "prealgebra", "precalculus"),
)


def load_math(**_: Any) -> dict[str, Dataset]:
    """The test problems of all subjects of MATH."""
    from datasets import concatenate_datasets, load_dataset

    path = "EleutherAI/hendrycks_math"
    parts = [load_dataset(path, subject, split="test") for subject in MATH_SUBJECTS]
    return {"test": concatenate_datasets(parts)}


def gsm8k_documents(documents: Dataset) -> Dataset:
    """Adds `gold`: what follows #### in the worked answer, without commas."""
    return documents.map(
        lambda row: {"gold": row["answer"].rpartition("####")[2].strip().replace(",", "")}
    )


def math_documents(documents: Dataset) -> Dataset:
    """Adds `question` and `gold`: what the worked solution boxes last."""
    return documents.map(
        lambda row: {"question": row["problem"], "gold": last_boxed(row["solution"]) or ""}
    )


def amc_documents(documents: Dataset) -> Dataset:
    """Adds `gold`."""
    return documents.map(lambda row: {"gold": reference_text(row["answer"])})


def strict(answers: list[list[str]], documents: list[dict[str, Any]]) -> list[list[str]]:
    """Only what is boxed."""
    found = [[last_boxed(answer) for answer in group] for group in answers]
    return [["" if box is None else f"\\boxed{{{box}}}" for box in group] for group in found]


def flexible(answers: list[list[str]], documents: list[dict[str, Any]]) -> list[list[str]]:
    """The whole response: its last box, without a box its last formula."""
    return answers


def score(document: dict[str, Any], answers: list[str]) -> dict[str, float]:
    """1 where the final answer equals the gold answer, as the reward `math` compares them."""
    return {"math_verify": float(is_correct(answers[0], document["gold"]))}


@cache
def _equality() -> Equality:
    return Equality()


def is_correct(response: str, gold: str) -> bool:
    """Whether the final answer of a response equals the gold answer.

    A gold answer that is no formula that can be read counts where the response has the same text.
    """
    try:
        reference = _equality().read_reference(gold)
    except UnreadableAnswerError:
        box = last_boxed(response)
        return box is not None and same_text(box, gold)
    return _equality().is_correct(response, reference)

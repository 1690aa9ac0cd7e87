"""Reads boxed answers and compares them with the gold answer by math-verify."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

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
    return documents.map(lambda row: {"gold": str(row["answer"])})


def last_boxed(text: str) -> str | None:
    """What is in the last \\boxed{...}, its braces balanced; None where there is none."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth = 0
    for place in range(start + len("\\boxed"), len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[start + len("\\boxed{") : place]
    return None


def strict(answers: list[list[str]], documents: list[dict[str, Any]]) -> list[list[str]]:
    """Only what is boxed."""
    found = [[last_boxed(answer) for answer in group] for group in answers]
    return [["" if box is None else f"\\boxed{{{box}}}" for box in group] for group in found]


def flexible(answers: list[list[str]], documents: list[dict[str, Any]]) -> list[list[str]]:
    """The whole answer; math-verify looks for a box, then for the last expression."""
    return answers


def score(document: dict[str, Any], answers: list[str]) -> dict[str, float]:
    """1 where the answer is mathematically equal to the gold answer."""
    from math_verify import parse, verify

    # It logs each expression that it gives up, at any length, as an error.
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    if not answers[0]:
        return {"math_verify": 0.0}
    gold = parse(f"${document['gold']}$")
    return {"math_verify": float(verify(gold, parse(answers[0])))}

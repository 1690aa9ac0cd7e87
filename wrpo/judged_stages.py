"""What decides the answers to judged benchmarks, and their verdicts: settings for stage keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from wrpo.ids import digest
from wrpo.judging import judge_identity
from wrpo.model_identity import file_digest
from wrpo.recipe import Recipe
from wrpo.recipe.judged_sections import (
    OWN,
    Judged,
    asks_both_orders,
    default_prompt,
    stated_decoding,
)

_OWN_PROMPTS = Path(__file__).parents[1] / "eval" / "judging" / "prompts.yaml"
"""A file of the package `eval`: it is data here, nothing of that package is imported."""


def answer_settings(recipe: Recipe, benchmark: str) -> dict[str, Any]:
    """What decides a model's answers beside the model."""
    judged = recipe.eval.judged[benchmark]
    return {
        "seed": recipe.seed,
        "benchmark": benchmark,
        "questions": _file_identity(judged.questions),
        "limit": judged.limit,
        "decoding": stated_decoding(benchmark, judged),
        **recipe.eval.model_dump(mode="json", include={"backend", "dtype", "max_length"}),
    }


def judge_settings(recipe: Recipe, benchmark: str) -> dict[str, Any]:
    """What decides the verdicts on given answers."""
    judged = recipe.eval.judged[benchmark]
    settings = {
        "judge": judge_identity(judged.judge, recipe.judges[judged.judge]),
        "prompt": _prompt_identity(benchmark, judged),
        "both_orders": asks_both_orders(benchmark, judged),
        "references": _file_identity(judged.references),
    }
    if benchmark == "alpaca_eval_2":
        settings |= {"logprobs": judged.logprobs, "difficulty": _file_identity(judged.difficulty)}
    return settings


def _file_identity(path: Path | None) -> str:
    if path is None:
        return "hub"
    return f"{path.name}#{file_digest(path)}" if path.is_file() else str(path)


def _prompt_identity(benchmark: str, judged: Judged) -> str:
    which = default_prompt(benchmark, judged)
    if which == OWN:
        return f"own#{digest(yaml.safe_load(_OWN_PROMPTS.read_text('utf-8'))[benchmark])}"
    return _file_identity(Path(which))

"""How many questions a benchmark has, as far as files tell without loading its data."""

from __future__ import annotations

import json
from pathlib import Path

from wrpo.local_paths import is_file
from wrpo.pricing.price import UnknownPrice
from wrpo.recipe.eval_sections import Eval
from wrpo.recipe.judged_sections import Judged
from wrpo.recipe.suite import LMEvalBenchmark, load_suite, shipped_suites, suites_of

TURNS = {"mt_bench": 2}
"""Answers to one question; one where it is not named."""
NO_QUESTIONS = "number of questions of {} unknown: write it under `questions` in throughput.yaml"


def stated_tasks(settings: Eval) -> dict[str, LMEvalBenchmark]:
    """What suites state of lm-eval's tasks, by task; the recipe's own suites before others."""
    suites = [*suites_of(settings), *(load_suite(name) for name in shipped_suites())]
    stated: dict[str, LMEvalBenchmark] = {}
    for suite in suites:
        for entry in suite.lm_eval().values():
            known = stated.setdefault(entry.task, entry)
            if known.documents is None and entry.documents is not None:
                stated[entry.task] = entry
    return stated


def judged_questions(benchmark: str, judged: Judged) -> int:
    """Questions of a judged benchmark: those of its file, else what suites state.

    Raises:
        UnknownPrice: neither tells.
    """
    count = _counted(judged.questions) if judged.questions else None
    if count is None:
        suites = [load_suite(name) for name in shipped_suites()]
        entries = [entry for suite in suites if (entry := suite.judged().get(benchmark))]
        count = next((entry.documents for entry in entries if entry.documents), None)
    if count is None:
        raise UnknownPrice(NO_QUESTIONS.format(benchmark))
    return min(count, judged.limit or count)


def _counted(path: Path) -> int | None:
    """Records of a JSON list or of JSON lines; None where the file cannot be read."""
    if not is_file(path):
        return None
    try:
        text = path.read_text(encoding="utf-8")
        if text.lstrip().startswith("["):
            return len(json.loads(text))
    except (OSError, ValueError):
        return None
    return sum(bool(line.strip()) for line in text.splitlines())

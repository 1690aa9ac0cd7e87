"""Judged benchmarks in the report: folders as `eval.judge` leaves them, invented verdicts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.harness.results import SAMPLES, write_results
from eval.report import build_report
from eval.reporting.evidence import Evidence, read_run
from eval.reporting.judged_table import for_papers, judged_tables
from eval.reporting.page import markdown
from tests.eval.synthetic_run import make_run
from wrpo.benchmarks.mt_bench import MTBenchSettings
from wrpo.errors import DataError
from wrpo.judging import JudgeModel
from wrpo.pipeline.folder import StageFolder

BENCHMARK = "mt_bench"
JUDGE = {"name": "big", "model": "judge-70b", "version": "2026-01"}
QUESTIONS = 40


def add_judgements(
    evidence: Evidence,
    model: str,
    *,
    mean: float,
    judge: dict[str, Any] | None = None,
    question: str = "question",
    prompt: str = "own",
) -> None:
    """Writes judge/mt_bench/MODEL with ratings around the mean, and adds it to the evidence."""
    rng = np.random.default_rng(len(model))
    scores = np.clip(np.round(rng.normal(mean, 0.8, size=QUESTIONS)), 1, 10)
    stage = f"judge/{BENCHMARK}/{model}"
    folder = StageFolder(evidence.recipe.runs / evidence.recipe.run / stage, {"stage": stage})
    folder.open()
    metric = {
        "value": float(scores.mean()),
        "low": float(scores.mean()) - 0.3,
        "high": float(scores.mean()) + 0.3,
        "n": QUESTIONS,
        "higher_is_better": True,
    }
    task = {
        "n": QUESTIONS,
        "metrics": {"score,none": metric},
        "main_metric": "score",
        "generation_kwargs": {"temperature": None, "max_tokens": 4096},
    }
    results = {
        "tasks": {BENCHMARK: task},
        "judge": judge or JUDGE,
        "judge_prompt": {"source": prompt, "comparable": "not comparable with the papers'"},
        "baseline": None,
        "verdicts": 80,
        "parse_failures": 3,
        "refused": 1,
        "position": {"first_share": 0.6, "first_share_n": 50, "flipped": None, "flipped_n": 0},
        "protocol": {"categories": {}},
        "cost": {
            "judgements": 80,
            "cached": 10,
            "tokens": {"input": 9000, "output": 700},
            "dollars": 0.25,
        },
        "truncated_responses": 2,
    }
    write_results(folder.path, results)
    folder.finish_parts(
        folder.write_table([_row(i, value, question) for i, value in enumerate(scores)], SAMPLES)
    )
    evidence.folders[stage] = folder.path


def _row(number: int, score: float, question: str) -> dict[str, Any]:
    category = ("writing", "math", "roleplay")[number % 3]
    return {
        "task": BENCHMARK,
        "doc_id": number,
        "filter": "none",
        "doc": json.dumps({"category": category, "verdicts": [f"[[{score}]]"]}),
        "question": f"{question} {number}",
        "prompt": "",
        "response": f"response {number}",
        "filtered": "[]",
        "target": "",
        "metrics": [{"name": "score", "value": float(score)}],
    }


def judged_run(folder: Path, **options: Any) -> Evidence:
    """A run whose recipe has a judged benchmark; arguments as `make_run`."""
    recipe = make_run(folder, **options)
    judges = {
        "judge": JudgeModel(model="judge-70b", engine={"endpoints": ["http://127.0.0.1:9/v1"]})
    }
    settings = recipe.eval.model_copy(
        update={"judged": {BENCHMARK: MTBenchSettings(judge="judge")}}
    )
    return read_run(recipe.model_copy(update={"judges": judges, "eval": settings}))


@pytest.fixture
def evidence(tmp_path: Path) -> Evidence:
    return judged_run(tmp_path, prompts=40, models=("target", "sft", "wrpo"))


@pytest.mark.usefixtures("empty_charts")
def test_numbers_stand_with_their_judge_failures_position_and_cost(evidence: Evidence) -> None:
    add_judgements(evidence, "sft", mean=5.0)
    add_judgements(evidence, "wrpo", mean=8.0)
    numbers, blocks = build_report(evidence)
    text = markdown(blocks)
    assert "## Judged: mt_bench" in text
    assert "Judge **judge-70b (2026-01)**" in text
    assert "3 of 80" in text
    assert "60% of 50" in text
    assert "What the judge cost: $0.50 in all" in text
    assert "Judges: 140 judgements asked for, $0.50 in all." in text
    assert numbers["judged"]["mt_bench, judge judge-70b (2026-01)"]["judge"] == JUDGE


@pytest.mark.usefixtures("empty_charts")
def test_models_are_compared_question_by_question_under_the_judges_name(evidence: Evidence) -> None:
    add_judgements(evidence, "sft", mean=5.0)
    add_judgements(evidence, "wrpo", mean=8.0)
    _, blocks = build_report(evidence)
    text = markdown(blocks)
    assert (
        "On **mt_bench, judge judge-70b (2026-01)**, by **score**, 40 prompts: "
        "WRPO is better than SFT alone."
    ) in text
    assert "Who beats whom on mt_bench, judge judge-70b (2026-01)" in text
    assert "| score | math (n = 13) |" in text


@pytest.mark.usefixtures("empty_charts")
def test_another_judge_has_a_table_of_its_own(evidence: Evidence) -> None:
    add_judgements(evidence, "sft", mean=5.0)
    add_judgements(evidence, "wrpo", mean=8.0)
    add_judgements(evidence, "target", mean=3.0, judge={**JUDGE, "version": "2026-06"})
    tables = judged_tables(evidence)
    assert [set(table.results) for table in tables] == [{"target"}, {"sft", "wrpo"}]
    assert tables[0].board() is None
    assert for_papers(tables) == {}
    _, blocks = build_report(evidence)
    assert markdown(blocks).count("## Judged: mt_bench") == 2


def test_answers_to_other_questions_are_not_compared(evidence: Evidence) -> None:
    add_judgements(evidence, "sft", mean=5.0)
    add_judgements(evidence, "wrpo", mean=8.0, question="another question")
    (table,) = judged_tables(evidence)
    with pytest.raises(DataError, match="document 0 of mt_bench is another one for wrpo"):
        table.board()


def test_a_run_without_judgements_has_no_such_section(evidence: Evidence) -> None:
    assert judged_tables(evidence) == []

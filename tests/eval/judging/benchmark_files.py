"""Small files in the shapes in which the judged benchmarks are published, with invented content."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import yaml

CATEGORIES = (
    "writing",
    "roleplay",
    "extraction",
    "math",
    "coding",
    "reasoning",
    "stem",
    "humanities",
)


def write_alpaca_eval(folder: Path, n: int = 12) -> dict[str, str]:
    """Question file (with the baseline's responses) and difficulty file: recipe fields."""
    records = [
        {
            "instruction": f"Name {i} things {{output_1}}.",
            "output": f"Things: {'x' * (7 * i)}",
            "generator": "base",
            "dataset": "invented",
        }
        for i in range(n)
    ]
    questions = folder / "alpaca.json"
    questions.write_text(json.dumps(records))
    difficulty = folder / "df_gamed.csv"
    with difficulty.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["index", "preference", "std_delta_len", "instruction_difficulty"])
        for number in range(n):
            writer.writerow([number, 0.3, 1.0 + number / n, (number - n / 2) / n])
            writer.writerow([number, 0.6, -1.0 - number / n, (number - n / 2) / n])
    return {"questions": str(questions), "difficulty": str(difficulty)}


def write_arena_hard(folder: Path, n: int = 6) -> dict[str, str]:
    """Question and baseline files in Arena-Hard's two published forms: recipe fields."""
    questions = [
        {"uid": f"q{i}", "category": "arena-hard-v0.1", "cluster": "c", "prompt": f"Explain {i}."}
        for i in range(n)
    ]
    responses: list[dict[str, Any]] = [
        {
            "question_id": f"q{i}",
            "choices": [{"turns": [{"content": f"# It is {i}", "token_len": 3}]}],
        }
        if i % 2
        else {
            "uid": f"q{i}",
            "messages": [
                {"role": "user", "content": f"Explain {i}."},
                {"role": "assistant", "content": {"answer": f"**It** is {i}"}},
            ],
        }
        for i in range(n)
    ]
    return {
        "questions": _write_lines(folder / "arena.jsonl", questions),
        "references": _write_lines(folder / "baseline.jsonl", responses),
    }


def write_mt_bench(folder: Path) -> dict[str, str]:
    """One question per category, references for three of them: recipe fields."""
    questions = [
        {"question_id": 81 + i, "category": name, "turns": [f"Do {name}.", "Now in verse."]}
        for i, name in enumerate(CATEGORIES)
    ]
    references = [
        {"question_id": q["question_id"], "choices": [{"turns": ["It is 4.", "It is five."]}]}
        for q in questions
        if q["category"] in ("math", "coding", "reasoning")
    ]
    return {
        "questions": _write_lines(folder / "mt.jsonl", questions),
        "references": _write_lines(folder / "references.jsonl", references),
    }


def write_judge_recipe(
    folder: Path, model: Path | str, judge: dict[str, Any], judged: dict[str, Any], **sections: Any
) -> Path:
    """A recipe with one source, one judge `big` and the given benchmarks."""
    recipe = {
        "run": "judged",
        "runs": str(folder / "runs"),
        "sources": {"one": {"model": str(model)}},
        "target": {"model": str(model)},
        "prompts": {"datasets": {"own": {"path": "prompts.jsonl"}}},
        "rewards": {"exact": {"type": "answer"}},
        "judges": {"big": judge},
        "eval": {"judged": judged, "dtype": "float32", "max_length": 512},
        **sections,
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return path


def _write_lines(path: Path, records: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)

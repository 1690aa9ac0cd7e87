"""A finished run made of written files: real folders, tables and manifests, invented scores."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from eval.harness.results import SAMPLES, write_results
from tests.eval.conftest import make_recipe
from wrpo.pipeline.folder import StageFolder
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import SCORES, SFT_ROWS, TRIPLES, Drop
from wrpo.recipe import Recipe, save_recipe
from wrpo.rows.truncation import CutCounts, TokenLimits

TASK = "quiz"
SKILLS = ("add", "spell")
ACCURACY = {
    "target": 0.1,
    "first": 0.4,
    "second": 0.3,
    "sft": 0.6,
    "wrpo": 0.8,
    "dpo": 0.6,
    "more-sft": 0.8,
}


def make_run(
    root: Path,
    *,
    run: str = "demo",
    seed: int = 1,
    accuracy: Mapping[str, float] = ACCURACY,
    prompts: int = 200,
    models: tuple[str, ...] | None = None,
) -> Recipe:
    """Writes a run in which each model is right on a share of the prompts; returns its recipe."""
    root.mkdir(parents=True, exist_ok=True)
    base = make_recipe(
        root, "some/model", tasks=[TASK], metrics=["acc", "reward"], group_by="skill"
    )
    recipe = base.model_copy(update={"run": run, "seed": seed})
    pipeline = Pipeline(recipe)
    save_recipe(recipe, recipe.runs / run / "recipe.yaml")
    _write_data(pipeline)
    for name in ("sft", "wrpo", "dpo", "more-sft"):
        _write_training(pipeline, name)
    rng = np.random.default_rng(seed)
    for name in models or tuple(accuracy):
        right = rng.permutation(prompts) < round(accuracy[name] * prompts)
        write_evaluation(pipeline, name, [float(value) for value in right])
    return recipe


def write_evaluation(
    pipeline: Pipeline, name: str, right: list[float], *, first_document: int = 0
) -> None:
    """Writes eval/NAME with one sample per value of `right`."""
    folder = _open(pipeline, f"eval/{name}")
    rows = [_sample(name, number, value, first_document) for number, value in enumerate(right)]
    facts = {
        "n": len(right),
        "metrics": {"acc,none": {"value": sum(right), "stderr": 0.0, "higher_is_better": True}},
        "first_prompt": {"text": "<user>1 + 1", "token_ids": [1, 2, 3]},
        "generation_kwargs": {"until": ["\n"]},
    }
    model = {"path": "some/model", "backend": "hf", "chat_template_hash": "0123456789abcdef"}
    write_results(folder.path, {"tasks": {TASK: facts}, "members": {TASK: [TASK]}, "model": model})
    _finish(folder, rows, SAMPLES)


def _sample(name: str, number: int, right: float, first_document: int) -> dict[str, Any]:
    question = f"question {number + first_document}"
    return {
        "task": TASK,
        "doc_id": number,
        "filter": "none",
        "doc": json.dumps({"skill": SKILLS[number % 2], "question": question}),
        "question": f"{question} with | and <b>",
        "prompt": f"<user>{question}",
        "response": f"{name} says `{'yes' if right else 'no'}` | </td>\n<script>",
        "filtered": "",
        "target": "yes",
        "metrics": [{"name": "acc", "value": right}, {"name": "reward", "value": 2 * right + 1}],
    }


def _write_data(pipeline: Pipeline) -> None:
    for place, name in enumerate(("first", "second", "target")):
        rows = [
            {
                "prompt_id": f"p{i}",
                "source": name,
                "index": 0,
                "score": place + i / 10,
                "rewards": [],
            }
            for i in range(10)
        ]
        dropped = [Drop("too_long", "1900 tokens").row("p99", source=name)]
        _finish(_open(pipeline, f"score/{name}"), rows, SCORES, dropped=dropped)
    sft = [{"prompt_id": f"p{i}", "source": "first", "score": 1.0, "index": 0} for i in range(3)]
    sft.append({"prompt_id": "p3", "source": "second", "score": 2.0, "index": 1})
    _finish(_open(pipeline, "build/sft"), sft, SFT_ROWS)
    triples = [
        {
            "triple_id": f"t{i}",
            "prompt_id": f"p{i}",
            "source_chosen_source": "second",
            "source_chosen_score": 2.0,
            "chosen_score": 1.0 + i,
            "rejected_score": 0.0,
        }
        for i in range(4)
    ]
    truncation = {
        "limits": asdict(TokenLimits(max_length=64, max_prompt_length=48)),
        "template": "0123456789abcdef",
        **asdict(CutCounts(4, 2, {"prompt": 0, "source_chosen": 2, "rejected": 0}, dropped=1)),
    }
    _finish(_open(pipeline, "build/triples"), triples, TRIPLES, truncation=truncation)


def _write_training(pipeline: Pipeline, name: str) -> None:
    folder = _open(pipeline, name)
    history: list[dict[str, Any]] = [
        {"step": step, "loss": 0.7 - 0.01 * step, "learning_rate": 1e-4} for step in range(1, 6)
    ]
    if name == "wrpo":
        for entry in history:
            entry |= {"alpha": 0.1 * entry["step"], "rewards/chosen": 0.5, "lengths/chosen": 8.0}
    history.append({"step": 5, "train_runtime": 3.0})
    (folder.path / "log_history.json").write_text(json.dumps(history), encoding="utf-8")
    folder.finish(rows=4)


def _open(pipeline: Pipeline, stage: str) -> StageFolder:
    folder = StageFolder(pipeline.folder(stage), pipeline.key(stage))
    folder.open()
    return folder


def _finish(
    folder: StageFolder,
    rows: list[dict[str, Any]],
    schema: pa.Schema,
    *,
    dropped: list[dict[str, Any]] | None = None,
    **facts: Any,
) -> None:
    folder.write_part(0, rows, schema, dropped=dropped)
    folder.finish_parts(1, **facts)

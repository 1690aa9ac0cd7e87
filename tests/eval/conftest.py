"""A tiny model, a local lm-eval task and a recipe for the tests of evaluation."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import yaml

from eval.reporting import charts
from tests.support.commands import start_server
from tests.support.task_index import keep_task_index
from wrpo.recipe import Recipe, load_recipe

TASK = "copy_word"
TASK_YAML = """\
task: copy_word
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
process_results: !function metrics.process_results
generation_kwargs:
  until: ["\\n"]
  max_gen_toks: 8
  do_sample: false
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
  - metric: reward
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1.0
"""
CHOICE_YAML = """\
task: pick_word
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: ["yes", "no"]
doc_to_target: 0
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""
METRICS_PY = """\
def process_results(doc, results):
    right = float(results[0].strip() == doc["answer"])
    return {"acc": right, "reward": 2 * right + float(len(results[0]) > 0)}
"""


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama with a byte-level tokenizer and a chat template."""
    from tests.support.tiny_models import save_tiny

    return save_tiny(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def kept_tasks() -> None:
    """lm-eval's own tasks are indexed once for all processes of this test run."""
    keep_task_index(start_server().parent)


@pytest.fixture
def empty_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of a report's words and numbers: its pictures take most of its time."""

    @contextmanager
    def picture(title: str, *, height: float) -> Iterator[MagicMock]:
        yield MagicMock(svg="<svg></svg>")

    monkeypatch.setattr(charts, "_picture", picture)


@pytest.fixture
def task_folder(tmp_path: Path) -> Path:
    """A folder with a generation task and a multiple-choice task."""
    return write_tasks(tmp_path / "tasks")


def write_tasks(folder: Path) -> Path:
    """Writes `copy_word` (12 documents to answer), `pick_word` (the same as multiple choice),
    `both_words` (a group of the two) and `write_code` (marked as running code).
    """
    folder.mkdir()
    data = folder / "docs.jsonl"
    docs = [
        {"question": f"say {i}" + "!" * i, "answer": str(i), "skill": "odd" if i % 2 else "even"}
        for i in range(12)
    ]
    data.write_text("\n".join(json.dumps(doc) for doc in docs), encoding="utf-8")
    (folder / "task.yaml").write_text(TASK_YAML.format(data=data), encoding="utf-8")
    (folder / "choice.yaml").write_text(CHOICE_YAML.format(data=data), encoding="utf-8")
    group = "group: both_words\ntask: [copy_word, pick_word]\n"
    (folder / "group.yaml").write_text(group, encoding="utf-8")
    code = TASK_YAML.replace("task: copy_word", "task: write_code\nunsafe_code: true")
    (folder / "code.yaml").write_text(code.format(data=data), encoding="utf-8")
    (folder / "metrics.py").write_text(METRICS_PY, encoding="utf-8")
    return folder


def make_recipe(tmp_path: Path, model: Path | str, **eval_fields: Any) -> Recipe:
    """A recipe of two sources with `eval` as given."""
    path = tmp_path / "recipe.yaml"
    content = {
        "run": "test-run",
        "runs": str(tmp_path / "runs"),
        "sources": {"first": {"model": str(model)}, "second": {"model": str(model)}},
        "target": {"model": str(model)},
        "prompts": {"datasets": {"own": {"path": "prompts.jsonl"}}},
        "rewards": {"exact": {"type": "answer"}},
        "arms": {"dpo": {"objective": "dpo"}, "more-sft": {"objective": "sft"}},
        "eval": eval_fields,
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return load_recipe(path)

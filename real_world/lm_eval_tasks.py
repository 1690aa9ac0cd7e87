"""The evaluation tasks, for lm-evaluation-harness: held-out tasks of all families, and chat."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from real_world.chat import documents
from real_world.families import TaskEntry
from wrpo.recipe.suite import OWN_TASKS

TASKS = ("real_world", "real_world_chat")
MAX_NEW_TOKENS = 40

_HELD_OUT = """\
include: {family}
task: real_world
custom_dataset: null
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
generation_kwargs: {{until: [], max_gen_toks: {tokens}, do_sample: false}}
metadata: {{version: 1}}
"""
_CHAT = """\
task: real_world_chat
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answers[0]}}}}"
process_results: !function chat.score_chat
generation_kwargs: {{until: [], max_gen_toks: {tokens}, do_sample: false}}
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
num_fewshot: 0
metadata: {{version: 1}}
"""
_SCORER = '''"""Lets the task file of this folder find its scorer."""

from real_world.chat import score_chat

__all__ = ["score_chat"]
'''


def write_tasks(folder: Path, held_out: Iterable[TaskEntry], *, chat: int) -> None:
    """Writes the task files and their data.

    Args:
        folder: where to write; `eval.include_path` of the recipe.
        chat: questions of general knowledge.
    """
    rows = [
        {"question": t.question, "answer": t.answer, "family": t.family, "reference": t.reference}
        for t in held_out
    ]
    data = {"real_world": rows, "real_world_chat": documents(chat)}
    texts = {"real_world": _HELD_OUT, "real_world_chat": _CHAT}
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for name in TASKS:
        path = folder / "data" / f"{name}.jsonl"
        write_jsonl(path, data[name])
        text = texts[name].format(
            family=json.dumps(str(OWN_TASKS / "reasoning_gym" / "_family.yaml")),
            data=json.dumps(str(path.resolve())),
            tokens=MAX_NEW_TOKENS,
        )
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    (folder / "chat.py").write_text(_SCORER, encoding="utf-8")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object per line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

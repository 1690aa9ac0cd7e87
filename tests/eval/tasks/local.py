"""The toolkit's tasks over documents of a test, and answers that nobody generated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lm_eval.tasks import TaskManager

from wrpo.recipe.suite import OWN_TASKS


def local_task(
    folder: Path, name: str, rows: list[dict[str, Any]], *, file: Path | None = None, **fields: Any
) -> Any:
    """A task of eval/tasks, or of another file, that reads `rows` instead of the hub's data."""
    data = folder / f"{name}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    source = file or next(OWN_TASKS.rglob(f"{name}.yaml"))
    override = {
        "include": str(source),
        "task": f"local_{name}",
        "custom_dataset": None,
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {split: str(data) for split in ("test", "train")}},
        **fields,
    }
    (folder / f"local_{name}.yaml").write_text(json.dumps(override), encoding="utf-8")
    manager = TaskManager(include_path=folder, include_defaults=False)
    (task,) = manager.load([f"local_{name}"])["tasks"].values()
    return task


def prompts(task: Any) -> list[Any]:
    """What each document asks, as a chat: a list of turns."""
    task.build_all_requests(
        rank=0,
        world_size=1,
        apply_chat_template=True,
        fewshot_as_multiturn=True,
        chat_template=lambda turns, add_generation_prompt: (turns, add_generation_prompt),
        tokenizer_name="chat",
        system_instruction=None,
    )
    return [instance.args[0] for instance in task.instances]


def scores(task: Any, answers: list[list[str]]) -> dict[str, list[dict[str, float]]]:
    """The metrics of each document by filter, for the answers to each document."""
    prompts(task)
    for instance, group in zip(task.instances, answers, strict=True):
        instance.resps = list(group)
    task.apply_filters()
    return {
        name: [
            task.process_results(instance.doc, [instance.filtered_resps[name]])
            for instance in task.instances
        ]
        for name in task.instances[0].filtered_resps
    }

"""The evaluation task, for lm-evaluation-harness.

`tiny_world` scores all of eval.jsonl; the group `tiny_world_by_skill` holds one task per skill. The
documents carry their skill too, so logged samples can be broken down without the group.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tiny_world.checker import check
from tiny_world.world import SKILLS

TASK = "tiny_world"
GROUP = "tiny_world_by_skill"
METRICS = ("acc", "format", "style", "reward")
MAX_NEW_TOKENS = 32
SCORER = '''"""Lets the task files of this folder find the scorer of the tiny world."""

from tiny_world.lm_eval_task import process_results

__all__ = ["process_results"]
'''


class _Function(str):
    """A function written in YAML as `!function module.name`."""


yaml.SafeDumper.add_representer(
    _Function, lambda dumper, name: dumper.represent_scalar("!function", str(name))
)


def process_results(doc: Mapping[str, Any], results: list[str]) -> dict[str, float]:
    """Score the response to one document with the checker."""
    return check(doc, results[0])


def write_tasks(folder: Path, *, eval_file: Path, skill_files: Mapping[str, Path]) -> None:
    """Write the YAML files and the scorer.

    Args:
        folder: Where to write; give it to lm-eval as `include_path`.
        eval_file: The rows of `tiny_world`.
        skill_files: The rows of each task of the group.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scorer.py").write_text(SCORER)
    _write_yaml(folder / f"{TASK}.yaml", _task(TASK, eval_file))
    names = []
    for skill in SKILLS:
        names.append(f"{TASK}_{skill}")
        _write_yaml(folder / f"{names[-1]}.yaml", _task(names[-1], skill_files[skill]))
    means = [{"metric": metric, "weight_by_size": True} for metric in METRICS]
    _write_yaml(
        folder / f"{GROUP}.yaml", {"group": GROUP, "task": names, "aggregate_metric_list": means}
    )


def _task(name: str, data: Path) -> dict[str, Any]:
    return {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data.resolve())}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{messages[0].content}}",
        "doc_to_target": "answer",
        "process_results": _Function("scorer.process_results"),
        "generation_kwargs": {"until": [], "do_sample": False, "max_gen_toks": MAX_NEW_TOKENS},
        "metric_list": [
            {"metric": metric, "aggregation": "mean", "higher_is_better": True}
            for metric in METRICS
        ],
        "metadata": {"version": 1},
    }


def _write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(yaml.safe_dump(dict(content), sort_keys=False))

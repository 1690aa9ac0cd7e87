"""Prompts that a first run keeps for its evaluation, as a task of lm-eval."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from wrpo.ids import unit_hash
from wrpo.start.answers import VERIFIERS, Answers

SHARE = 0.2
MOST = 200
_FORMATS = (".jsonl", ".csv", ".parquet")

_TASK = """\
# The prompts that `wrpo init` held out of {origin}, scored as the reward of the recipe scores.
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{{prompt}}}}}"
doc_to_target: {reference}
process_results: !function scorer.score
generation_kwargs: {{until: [], max_gen_toks: 128, do_sample: false}}
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
num_fewshot: 0
metadata: {{version: 1}}
"""
_SCORER = '''"""Scores a held-out response as the reward of the recipe does."""

from wrpo.rows.cells import reference_text
from wrpo.rewards import Candidate, RewardSettings
from wrpo.settings import kinds_in

REWARD = kinds_in("wrpo.rewards", RewardSettings, tag="type")["{reward}"](type="{reward}").load()


def score(document, results):
    """The number that the reward gives; 0 where it gives none."""
    reference = reference_text(document["{reference}"])
    [found] = REWARD.score([Candidate([], results[0], reference)])
    return {{"acc": found if isinstance(found, float) else 0.0}}
'''


def can_hold_out(answers: Answers) -> bool:
    """Whether there are rows to divide, and a verifier to score them by."""
    path = Path(answers.prompts)
    return answers.reward in VERIFIERS and path.suffix in _FORMATS and bool(answers.rows)


def hold_out(answers: Answers, folder: Path) -> Answers:
    """Divides the prompts by the hash of each, and writes both parts and the task.

    Args:
        folder: where to write; `eval.include_path` of the recipe.

    Returns:
        The answers with the prompts that are left for the run.
    """
    rows = _read(Path(answers.prompts))
    rows.sort(key=lambda row: unit_hash(0, json.dumps(row[answers.prompt], default=str)))
    count = min(MOST, max(1, round(SHARE * len(rows))))
    folder.mkdir(parents=True, exist_ok=True)
    left, held_out = folder / "prompts.jsonl", folder / "held-out.jsonl"
    _write(left, rows[count:])
    _write(held_out, rows[:count])
    first = rows[0][answers.prompt]
    names = {
        "name": answers.run,
        "origin": Path(answers.prompts).name,
        "data": json.dumps(str(held_out.resolve())),
        "prompt": answers.prompt + ("[-1].content" if isinstance(first, list) else ""),
        "reference": answers.reference_answer,
    }
    (folder / f"{answers.run}.yaml").write_text(_TASK.format(**names), encoding="utf-8")
    scorer = _SCORER.format(reward=answers.reward, reference=answers.reference_answer)
    (folder / "scorer.py").write_text(scorer, encoding="utf-8")
    return replace(answers, prompts=str(left), rows=len(rows) - count)


def _read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return found
    with path.open(encoding="utf-8-sig", newline="") as text:
        if path.suffix == ".csv":
            return list(csv.DictReader(text))
        return [json.loads(line) for line in text if line.strip()]


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")

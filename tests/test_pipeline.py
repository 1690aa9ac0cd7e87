"""The whole pipeline on models with random weights: real vLLM, TRL, lm-eval, in one command."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from wrpo.recipe import load_recipe
from wrpo.stages import Pipeline
from wrpo.tables import read_rows

TASK = """\
task: say_word
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: text
doc_to_target: gold
generation_kwargs: {{until: [], max_gen_toks: 8, do_sample: false}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""

TRAIN = {"learning_rate": 1e-4, "max_steps": 2, "logging_steps": 1, "gradient_checkpointing": False}


def small_recipe(write_recipe: Callable[..., Path], tmp_path: Path) -> Path:
    training = {
        "global_batch_size": 4,
        "train": TRAIN,
        "engine": {"per_device_batch_size": 2},
    }
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    (tasks / "say_word.yaml").write_text(TASK.format(data=tmp_path / "prompts.jsonl"))
    return write_recipe(
        prompts=24,
        sft=training,
        truncation={"max_length": 96},
        wrpo={
            **training,
            "beta": 0.1,
            "alpha": {"end": 0.5},
            "likelihood": {"weight": 0.5, "on": "better"},
            "train": {**TRAIN, "save_steps": 1},
        },
        arms={
            "dpo": {"objective": "dpo", "likelihood": {"weight": 0.0}, "reference": "model"},
            "lora": {"lora": {"r": 2, "lora_alpha": 4}},
            "more-sft": {"objective": "sft"},
            "infifpo": {"objective": "dpo", "loss": "sigmoid_norm", "reference": "fused"},
            "cgpo": {"objective": "cgpo"},
            "pairs-dpo": {"objective": "dpo", "data": "pairs", "likelihood": {"on": "chosen"}},
        },
        build={"pairs": {"min_gap": 0.0, "max_gap": None}},
        eval={
            "tasks": ["say_word"],
            "include_path": str(tasks),
            "dtype": "float32",
            "sources": False,
            "limit": 6,
            "engine": {"batch_size": 8},
        },
    )


@pytest.mark.slow
def test_one_command_leads_from_prompts_to_a_report(write_recipe, run_module, tmp_path) -> None:
    path = small_recipe(write_recipe, tmp_path)
    result = run_module("wrpo", "run", "--jobs", 2, "--recipe", path)
    assert result.returncode == 0, result.stderr[-3000:]
    pipeline = Pipeline(load_recipe(path))
    assert {name: pipeline.state(name) for name in pipeline.stages} == dict.fromkeys(
        pipeline.stages, "done"
    )
    _check_training(pipeline)
    report = (pipeline.folder("report") / "report.html").read_text()
    assert all(name in report for name in ("wrpo", "dpo", "lora", "more-sft"))
    again = run_module("wrpo", "run", "--recipe", path)
    assert again.returncode == 0 and "is done" in again.stderr
    assert "sample/one" not in again.stderr


def _check_training(pipeline: Pipeline) -> None:
    triples = read_rows(pipeline.folder("build/triples"))
    logprobs = read_rows(pipeline.folder("logprobs/sft/triples"))
    assert len(logprobs) == 3 * len(triples)
    assert all(row["logp"] < 0 < row["length"] for row in logprobs)
    for arm in ("wrpo", "dpo", "lora", "more-sft", "infifpo", "cgpo", "pairs-dpo"):
        folder = pipeline.folder(arm)
        assert (folder / "model" / "model.safetensors").is_file()
        assert (folder / "model" / "chat_template.jinja").is_file()
        manifest = json.loads((folder / "manifest.json").read_text())
        assert manifest["steps"] == 2
    history = json.loads((pipeline.folder("wrpo") / "log_history.json").read_text())
    assert [row["alpha"] for row in history if "alpha" in row] == [0.0, 0.25]
    assert history[0]["preference_loss"] == pytest.approx(0.6931, abs=2e-3)
    assert (pipeline.folder("wrpo") / "checkpoints" / "checkpoint-2").is_dir()

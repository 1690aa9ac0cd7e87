"""A small fusion run: two sources, a target, a reward model, real recipes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

WORDS = ["sea", "hill", "moon", "tree", "bird", "rain", "sand", "leaf"]

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


def write_recipe(folder: Path, models: Path, *, prompts: int = 12, **sections: object) -> Path:
    """Writes prompts and a recipe into a folder.

    Args:
        models: folder of the models `one`, `two`, `target` and `reward`.
        sections: top-level sections of the recipe that replace those written here.
    """
    lines = [
        {"text": f"Say {WORDS[n % 8]} {n}.", "gold": WORDS[n % 8], "kind": f"k{n % 2}"}
        for n in range(prompts)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "prompts.jsonl").write_text(text)
    recipe = {
        "run": "test",
        "runs": str(folder / "runs"),
        "seed": 7,
        "sources": {
            name: {"model": str(models / name), "dtype": "float32"} for name in ("one", "two")
        },
        "target": {"model": str(models / "target")},
        "prompts": {
            "datasets": {
                "words": {
                    "path": str(folder / "prompts.jsonl"),
                    "prompt": "text",
                    "reference_answer": "gold",
                    "domain": "kind",
                }
            }
        },
        "sample": {
            "responses": 2,
            "max_tokens": 8,
            "max_prompt_tokens": 120,
            "chunk_prompts": 4,
            "engine": {"enforce_eager": True, "kv_cache_mib": 64},
        },
        "rewards": {
            "style": {"type": "classifier", "model": str(models / "reward"), "dtype": "float32"}
        },
        **sections,
    }
    # Random models do not end their responses.
    recipe["build"] = {"unfinished": "any", **recipe.get("build", {})}
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return path


def write_whole_recipe(folder: Path, models: Path) -> Path:
    """A recipe with every stage and every objective, two steps of training each."""
    tasks = folder / "tasks"
    tasks.mkdir()
    (tasks / "say_word.yaml").write_text(TASK.format(data=folder / "prompts.jsonl"))
    return write_recipe(folder, models, prompts=24, **_every_stage(tasks))


def _every_stage(tasks: Path) -> dict[str, Any]:
    training = {
        "global_batch_size": 4,
        "train": TRAIN,
        "engine": {"per_device_batch_size": 2},
    }
    return {
        "sft": training,
        "truncation": {"max_length": 96},
        "wrpo": {
            **training,
            "beta": 0.1,
            "alpha": {"end": 0.5},
            "likelihood": {"weight": 0.5, "on": "better"},
            "train": {**TRAIN, "save_steps": 1},
        },
        "arms": {
            "dpo": {"objective": "dpo", "likelihood": {"weight": 0.0}, "reference": "model"},
            "lora": {"lora": {"r": 2, "lora_alpha": 4}},
            "more-sft": {"objective": "sft"},
            "infifpo": {"objective": "dpo", "loss": "sigmoid_norm", "reference": "fused"},
            "cgpo": {"objective": "cgpo"},
            "pairs-dpo": {"objective": "dpo", "data": "pairs", "likelihood": {"on": "chosen"}},
        },
        "build": {"pairs": {"min_gap": 0.0, "max_gap": None}},
        "eval": {
            "tasks": ["say_word"],
            "include_path": str(tasks),
            "dtype": "float32",
            "sources": False,
            "limit": 6,
            "engine": {"batch_size": 8},
        },
    }

"""A folder that looks like this repository to a command, with everything a reader would have.

Names of the model hub are folders here, relative to the place where commands run: tiny models and
small data sets of the same columns. So a documented command runs as it is printed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from tests.docs.blocks import ROOT
from tests.eval.judging.benchmark_files import (
    write_alpaca_eval,
    write_arena_hard,
    write_mt_bench,
)
from tests.support.command_server import FAST_PYTHON
from tests.support.tiny_models import save_tiny, save_tiny_reward

CAUSAL = ("Qwen/Qwen2-72B-Instruct", "meta-llama/Meta-Llama-3-8B-Instruct", "path/to/sft-model")
REWARD = "Skywork/Skywork-Reward-V2-Llama-3.1-8B"
PROMPTS = "princeton-nlp/llama3-ultrafeedback-armorm"
TRIPLES = "AALF/ultrafeedback_wrpo"
_CODE = ("wrpo", "data_construction", "eval")
_LEFT_OUT = shutil.ignore_patterns(
    ".*", "__pycache__", "runs", "site", "*.egg-info", "wandb", *_CODE
)
MATHS = {"openai/gsm8k": "main", "math-ai/amc23": "default"}


class Checkout:
    """The folder, and how commands run in it.

    Args:
        folder: an empty folder.
        run: a finished run, which becomes `runs/demo`.
    """

    def __init__(self, folder: Path, run: Path) -> None:
        self.folder = folder
        self.run_folder = run
        shutil.copytree(ROOT, folder, dirs_exist_ok=True, ignore=_LEFT_OUT)
        for name in _CODE:
            (folder / name).symlink_to(ROOT / name)
        self._programs = _environment(folder / ".venv")
        (folder / "runs").mkdir()
        (folder / "runs" / "demo").symlink_to(run)
        for name in CAUSAL:
            save_tiny(folder / name)
        save_tiny_reward(folder / REWARD)
        _write_data(folder)

    def run(
        self, command: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs one line of a shell with the programs of this environment."""
        # `make test ARGS=...` hands its variables on, and they would reach the make of a command.
        given = {k: v for k, v in os.environ.items() if k != "ARGS" and not k.startswith("MAKE")}
        everything = {
            **given,
            "PATH": f"{self._programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.folder),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            **(environment or {}),
        }
        return subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=everything,
            capture_output=True,
            text=True,
            timeout=600,
        )


def _environment(folder: Path) -> Path:
    """The programs of this environment; `python` starts the toolkit's commands and lm-eval fast."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    for program in (Path(sys.prefix) / "bin").iterdir():
        is_python = program.name.startswith("python")
        (programs / program.name).symlink_to(FAST_PYTHON if is_python else program)
    lm_eval = programs / "lm-eval"
    lm_eval.unlink(missing_ok=True)
    lm_eval.write_text('#!/bin/sh\nexec python -m lm_eval "$@"\n')
    lm_eval.chmod(0o755)
    return programs


def write_judged_recipe(checkout: Checkout, sections: dict[str, Any], server: str) -> Path:
    """The finished run with the sections `judges` and `eval` of a page, and short answers."""
    data = checkout.folder / "data"
    data.mkdir()
    files = {
        "alpaca_eval_2": write_alpaca_eval(data, 2),
        "arena_hard": write_arena_hard(data, 2),
        "mt_bench": write_mt_bench(data),
    }
    for name, settings in sections["eval"]["judged"].items():
        settings |= {**files[name], "decoding": {"max_tokens": 8}, "prompt": "own"}
    for judge in sections["judges"].values():
        judge["engine"]["endpoints"] = [server]
    recipe = yaml.safe_load((checkout.run_folder / "recipe.yaml").read_text(encoding="utf-8"))
    evaluation = {"sources": False, "dtype": "float32", "max_length": 512, **sections["eval"]}
    recipe |= {**sections, "eval": evaluation, "arms": {}}
    recipe |= {"run": "judged", "runs": "runs", "reuse": "demo"}
    path = checkout.folder / "recipes" / "judged.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


def _write_data(folder: Path) -> None:
    ask = [f"Say {word} {number}." for number, word in enumerate(["sea", "hill", "moon"] * 4)]
    _write_parquet(folder / PROMPTS, [{"prompt": text} for text in ask])
    _write_parquet(folder / TRIPLES, [_published_row(text) for text in ask])
    for name, config in MATHS.items():
        _write_hub_data(folder / name, config)


def _published_row(text: str) -> dict[str, Any]:
    """As WRPO's code reads it: chosen = [y_ws, y_wt], rejected = [y_l]."""
    said = [{"role": "assistant", "content": f"{word} {text}"} for word in ("Yes.", "Well.", "No.")]
    prompt = [{"role": "user", "content": text}]
    return {"prompt": prompt, "chosen": said[:2], "rejected": said[2:]}


def _write_parquet(folder: Path, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "train.parquet")


def _write_hub_data(folder: Path, config: str) -> None:
    """A folder that `datasets` loads under a configuration's name, as it does from the hub."""
    folder.mkdir(parents=True)
    rows = [{"question": f"{n} + {n}?", "answer": f"#### {2 * n}"} for n in range(2)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "test.jsonl").write_text(lines, encoding="utf-8")
    files = f"[{{config_name: {config}, data_files: [{{split: test, path: test.jsonl}}]}}]"
    (folder / "README.md").write_text(f"---\nconfigs: {files}\n---\n", encoding="utf-8")

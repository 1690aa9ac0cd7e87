"""Train tiny policies under one way of distributing them; a test starts it through a launcher.

Usage: python -m tests.wrpo.training.distributed_run FOLDER WAY CASE...
Reads:  FOLDER/policy and FOLDER/reference, two model folders
Writes: FOLDER/WAY/CASE, the folder of a training stage; case "batch": one file batch.json; case
        "nan": one file nan-RANK.txt of each process
"""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig

from tests.support.tiny_models import tiny_tokenizer
from tests.wrpo.conftest import make_triples
from tests.wrpo.training.cpu_processes import prepare_state
from wrpo.collator import reference_logps
from wrpo.config import WRPOConfig
from wrpo.errors import ModelError
from wrpo.pipeline.folder import StageFolder
from wrpo.pipeline.parts import StageWork
from wrpo.recipe.sampling import Model
from wrpo.rows.columns import TRIPLE_RESPONSES, reference_column
from wrpo.trainer import WRPOTrainer
from wrpo.training.common import CHECKPOINTS, load_policy, train_and_save
from wrpo.training.launch import leave_process_group

GLOBAL_BATCH = 4
ROWS = 8
COMMON = {
    "bf16": False,
    "report_to": "none",
    "disable_tqdm": True,
    "save_strategy": "no",
    "eval_strategy": "epoch",
    "logging_steps": 1,
    "num_train_epochs": 2,
    "learning_rate": 1e-2,
    "optim": "sgd",
    "lr_scheduler_type": "constant",
    "alpha": 0.4,
    "beta": 0.3,
    "likelihood_weight": 0.2,
    "per_device_eval_batch_size": 2,
}
CASES: dict[str, dict[str, Any]] = {
    "prefix": {"triple_layout": "prefix"},
    "padded": {},
    "model": {"triple_layout": "prefix", "reference": "model"},
    "copy": {"triple_layout": "prefix", "reference": "copy"},
    "lora": {"triple_layout": "prefix", "reference": "copy", "lora": True},
    "resume": {
        "optim": "adamw_torch",
        "save_strategy": "steps",
        "save_steps": 3,
        "num_train_epochs": 3,
    },
    "batch": {},
    "nan": {},
}


def main(folder: Path, way: str, cases: list[str]) -> None:
    for case in cases:
        run = Run(folder, way, case)
        if case == "batch":
            run.prepare_batch(case)
            continue
        if case == "nan":
            run.train_to_a_nan(case)
            continue
        run.train(case)
        if case == "resume":
            run.train_rest(case, "resumed", checkpoint="checkpoint-3")
    leave_process_group()


class Run:
    """One case under one way."""

    def __init__(self, folder: Path, way: str, case: str) -> None:
        self._way, self._models, self._stages = way, folder, folder / way
        options = {**COMMON, **CASES[case]}
        self._reference = options.pop("reference", "columns")
        self._lora = options.pop("lora", False)
        processes = 1 if way == "one" else 2
        halved = case == "padded"
        self._options = {
            **options,
            "per_device_train_batch_size": 2 // processes if halved else 2,
            "gradient_accumulation_steps": 2 if halved else 2 // processes,
        }

    def train(self, stage: str) -> None:
        self._train_and_save(self._trainer(self._stages / stage / CHECKPOINTS), stage)

    def prepare_batch(self, name: str) -> None:
        """Write what becomes of floating-point numbers in a batch on its way to the model."""
        os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16"  # the arguments refuse bf16 without a GPU
        trainer = self._trainer(self._stages / name)
        rows = [trainer.train_dataset[i] for i in range(2)]
        batch = trainer._prepare_inputs({**trainer.data_collator(rows), "number": torch.ones(1)})
        columns = [[row[reference_column(name)] for name in TRIPLE_RESPONSES] for row in rows]
        facts = {
            "number": str(batch["number"].dtype),
            "reference_is_exact": torch.equal(reference_logps(batch), torch.tensor(columns)),
        }
        (self._stages / f"{name}.json").write_text(json.dumps(facts))

    def train_to_a_nan(self, name: str) -> None:
        """Write what each process says when the loss of the last one alone is no number."""
        trainer = self._trainer(self._stages / name / CHECKPOINTS)
        rank, step = trainer.accelerator.process_index, trainer.training_step

        def broken(*args: Any, **kwargs: Any) -> torch.Tensor:
            second = trainer.state.global_step == 1 and rank == 1
            return step(*args, **kwargs) * (float("nan") if second else 1.0)

        trainer.training_step = broken
        try:
            self._train_and_save(trainer, name)
        except ModelError as error:
            (self._stages / f"{name}-{rank}.txt").write_text(str(error))

    def train_rest(self, whole: str, stage: str, *, checkpoint: str) -> None:
        """Go on from a checkpoint of another stage, as after a kill."""
        trainer = self._trainer(self._stages / stage / CHECKPOINTS)
        if trainer.is_world_process_zero():
            source = self._stages / whole / CHECKPOINTS / checkpoint
            shutil.copytree(source, self._stages / stage / CHECKPOINTS / checkpoint)
        trainer.accelerator.wait_for_everyone()
        self._train_and_save(trainer, stage)

    def _train_and_save(self, trainer: WRPOTrainer, stage: str) -> None:
        work = StageWork(stage, StageFolder(self._stages / stage, {}))
        train_and_save(trainer, work, rows=ROWS)
        if trainer.is_world_process_zero():
            work.finish()

    def _trainer(self, output: Path) -> WRPOTrainer:
        options = {**self._options, **prepare_state(self._way)}
        args = WRPOConfig(output_dir=str(output), **options)
        return WRPOTrainer(
            model=self._load("policy"),
            ref_model=self._load("reference") if self._reference == "model" else None,
            args=args,
            train_dataset=self._rows(ROWS),
            eval_dataset=self._rows(7),
            processing_class=tiny_tokenizer(),
            peft_config=LoraConfig(r=4, target_modules="all-linear") if self._lora else None,
        )

    def _load(self, name: str) -> Any:
        path = str(self._models / name)
        return load_policy(path, Model(model=path))

    def _rows(self, count: int) -> Dataset:
        rows = make_triples(count)
        if self._reference == "columns":
            for i, row in enumerate(rows):
                for name in TRIPLE_RESPONSES:
                    response = row[name][0]["content"]
                    row[reference_column(name)] = -6.1 * len(response) - 8.0123 - 0.01 * i
        return Dataset.from_list(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])

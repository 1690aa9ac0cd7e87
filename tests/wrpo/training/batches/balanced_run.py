"""Train a tiny policy on triples of very different length; started by torchrun in a test.

Usage: balanced_run.py OUTPUT_FOLDER PER_DEVICE_BATCH BALANCE(yes|no|tokens|scarce)
       scarce: as tokens, and the second process is short of memory once
Writes: OUTPUT_FOLDER/result.json
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import SFTConfig

from tests.support.tiny_models import tiny_model, tiny_tokenizer
from tests.wrpo.conftest import make_triples
from tests.wrpo.training.small_training import ON_CPU
from wrpo.config import WRPOConfig
from wrpo.trainer import WRPOTrainer
from wrpo.training.launch import leave_process_group
from wrpo.training.sft_trainer import PackedSFTTrainer

# With 8 rows per optimizer step, the last step of an epoch has 3.
ROWS = 19


def uneven_triples(rows: int) -> list[dict[str, Any]]:
    """Triples of which every fifth is several times as long as the others."""
    triples = make_triples(rows)
    for row in triples[::5]:
        row["chosen"][0]["content"] *= 20
    return triples


class ScarceTrainer(WRPOTrainer):
    """Out of memory where a backward pass would begin, in the fourth pass of the second process."""

    passes = 0

    def compute_loss(self, *arguments: Any, **options: Any) -> Any:
        loss = super().compute_loss(*arguments, **options)
        self.passes += 1
        if self.passes == 4 and self.accelerator.process_index == 1:
            raise torch.OutOfMemoryError("planted")
        return loss


def make_trainer(folder: Path, batch: int, balance: str, rows: int) -> WRPOTrainer:
    args = WRPOConfig(
        output_dir=str(folder),
        use_cpu=True,
        bf16=False,
        report_to="none",
        disable_tqdm=True,
        save_strategy="steps",
        save_steps=4,
        logging_steps=1,
        num_train_epochs=2,
        learning_rate=1e-2,
        optim="sgd",
        lr_scheduler_type="constant",
        alpha=0.4,
        beta=0.3,
        likelihood_weight=0.2,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=2,
        balance_micro_batches=balance == "yes",
        micro_batch_tokens={"tokens": 300, "scarce": 600}.get(balance),
    )
    kind = ScarceTrainer if balance == "scarce" else WRPOTrainer
    return kind(
        model=tiny_model(),
        ref_model=tiny_model(seed=1),
        args=args,
        train_dataset=Dataset.from_list(uneven_triples(rows)),
        processing_class=tiny_tokenizer(),
    )


class ScarceSFT(PackedSFTTrainer):
    """Out of memory in the forward pass, before the figures of all processes are gathered."""

    passes = scarce = 0

    def compute_loss(self, *arguments: Any, **options: Any) -> Any:
        self.passes += 1
        if self.passes == self.scarce and self.accelerator.process_index == 1:
            raise torch.OutOfMemoryError("planted")
        return super().compute_loss(*arguments, **options)


def sft(folder: Path, *, scarce: int) -> dict[str, Any]:
    """What supervised training gives where its pass of this number does not fit; 0: all do."""
    args = SFTConfig(
        output_dir=str(folder),
        **ON_CPU,
        learning_rate=0.05,
        max_length=None,
        per_device_train_batch_size=4,
    )
    rows = [{"input_ids": [6 + (7 * i + j) % 90 for j in range(10 + 9 * i)]} for i in range(8)]
    trainer = ScarceSFT(
        120,
        model=tiny_model(),
        args=args,
        train_dataset=Dataset.from_list(rows),
        processing_class=tiny_tokenizer(),
    )
    trainer.scarce = scarce
    trainer.train()
    tokens = [entry["num_tokens"] for entry in trainer.state.log_history if "num_tokens" in entry]
    assert trainer.budget is not None
    return {"weights": weights(trainer), "tokens": tokens, "budget": trainer.budget.tokens}


def weights(trainer: Any) -> list[float]:
    return [float(p.detach().double().abs().sum()) for p in trainer.model.parameters()]


def main(folder: Path, batch: int, balance: str) -> None:
    whole = make_trainer(folder / "whole", batch, balance, ROWS)
    whole.train()
    resumed = make_trainer(folder / "resumed", batch, balance, ROWS)
    resumed.train(resume_from_checkpoint=str(folder / "whole" / "checkpoint-4"))
    # One row is left for the last optimizer step, which is fewer than two ranks need.
    short = make_trainer(folder / "short", batch, balance, 9)
    short.train()
    supervised = [sft(folder / "sft", scarce=n) for n in (0, 2)] if balance == "scarce" else []
    if whole.is_world_process_zero():
        result = {
            "log": whole.state.log_history,
            "weights": weights(whole),
            "resumed": weights(resumed),
            "short_steps": short.state.global_step,
            "sft": supervised,
            "budgets": [getattr(t.budget, "tokens", None) for t in (whole, resumed, short)],
        }
        (folder / "result.json").write_text(json.dumps(result))
    leave_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])

"""Train a tiny policy on triples of very different length; started by torchrun in a test.

Usage: balanced_run.py OUTPUT_FOLDER PER_DEVICE_BATCH BALANCE(yes|no|tokens)
Writes: OUTPUT_FOLDER/result.json
"""

import json
import sys
from pathlib import Path
from typing import Any

from datasets import Dataset

from tests.support.tiny_models import tiny_model, tiny_tokenizer
from tests.wrpo.conftest import make_triples
from wrpo.config import WRPOConfig
from wrpo.trainer import WRPOTrainer
from wrpo.training.launch import leave_process_group

# With 8 rows per optimizer step, the last step of an epoch has 3.
ROWS = 19


def uneven_triples(rows: int) -> list[dict[str, Any]]:
    """Triples of which every fifth is several times as long as the others."""
    triples = make_triples(rows)
    for row in triples[::5]:
        row["chosen"][0]["content"] *= 20
    return triples


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
        micro_batch_tokens=300 if balance == "tokens" else None,
    )
    return WRPOTrainer(
        model=tiny_model(),
        ref_model=tiny_model(seed=1),
        args=args,
        train_dataset=Dataset.from_list(uneven_triples(rows)),
        processing_class=tiny_tokenizer(),
    )


def weights(trainer: WRPOTrainer) -> list[float]:
    return [float(p.detach().double().abs().sum()) for p in trainer.model.parameters()]


def main(folder: Path, batch: int, balance: str) -> None:
    whole = make_trainer(folder / "whole", batch, balance, ROWS)
    whole.train()
    resumed = make_trainer(folder / "resumed", batch, balance, ROWS)
    resumed.train(resume_from_checkpoint=str(folder / "whole" / "checkpoint-4"))
    # One row is left for the last optimizer step, which is fewer than two ranks need.
    short = make_trainer(folder / "short", batch, balance, 9)
    short.train()
    if whole.is_world_process_zero():
        result = {
            "log": whole.state.log_history,
            "weights": weights(whole),
            "resumed": weights(resumed),
            "short_steps": short.state.global_step,
        }
        (folder / "result.json").write_text(json.dumps(result))
    leave_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])

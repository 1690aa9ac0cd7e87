"""Train and evaluate a tiny policy and write its log as JSON; started by torchrun in a test.

Usage: distributed_run.py OUTPUT_FOLDER PER_DEVICE_BATCH
"""

import json
import sys
from pathlib import Path

from datasets import Dataset

from tests.tiny_models import tiny_model, tiny_tokenizer
from tests.wrpo.conftest import make_triples
from wrpo.config import WRPOConfig
from wrpo.trainer import WRPOTrainer


def main(folder: Path, batch: int) -> None:
    args = WRPOConfig(
        output_dir=str(folder),
        use_cpu=True,
        bf16=False,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
        logging_steps=2,
        num_train_epochs=2,
        learning_rate=1e-2,
        optim="sgd",
        lr_scheduler_type="constant",
        alpha=0.4,
        beta=0.3,
        likelihood_weight=0.2,
        per_device_train_batch_size=batch,
        per_device_eval_batch_size=batch,
        gradient_accumulation_steps=2,
    )
    trainer = WRPOTrainer(
        model=tiny_model(),
        ref_model=tiny_model(seed=1),
        args=args,
        train_dataset=Dataset.from_list(make_triples(16)),
        eval_dataset=Dataset.from_list(make_triples(7)),
        processing_class=tiny_tokenizer(),
    )
    trainer.train()
    metrics = trainer.evaluate()
    if trainer.is_world_process_zero():
        weight = sum(float(p.detach().double().abs().sum()) for p in trainer.model.parameters())
        result = {"log": trainer.state.log_history, "eval": metrics, "weight": weight}
        (folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

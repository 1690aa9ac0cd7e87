"""Small trainings on distributions, for tests in one process and in two."""

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from trl import SFTConfig

from tests.support.tiny_models import tiny_tokenizer
from tests.wrpo.training.small_training import ON_CPU, policy
from wrpo.distillation.trainer import TeacherTrainer
from wrpo.pipeline.tables import Row

V, K = 262, 3


def rows(count: int, responses: tuple[str, ...], *, behind: int = 0, vocabulary: int = V) -> Any:
    """Prompts with responses of other lengths, and distributions over all of their tokens."""
    generator = torch.Generator().manual_seed(count)

    def ids(size: int) -> list[int]:
        return torch.randint(6, V, (size,), generator=generator).tolist()

    made: list[Row] = []
    for number in range(count):
        row: Row = {"prompt_ids": ids(4 + number % 3)}
        for name in responses:
            said = ids(2 + (number * 5) % 9)
            logits = torch.randn(len(said) + behind, vocabulary, generator=generator)
            logps, top = logits.log_softmax(-1).topk(K)
            rest = (1 - logps.exp().sum(-1)).log()
            row[f"{name}_ids"] = said
            row[f"{name}_lessons"] = [
                {
                    "weight": 1.0,
                    "ids": top.tolist(),
                    "logps": logps.tolist(),
                    "rest": rest.tolist(),
                }
            ]
        made.append(row)
    return made


def trained(
    folder: Path,
    settings: Any,
    *,
    size: int,
    processes: int = 1,
    count: int = 13,
    tokens: int | None = None,
    vocabulary: int = V,
) -> tuple[list[Tensor], TeacherTrainer]:
    """Thirteen rows, unless said, in steps of six: six, six, and the one that is left."""
    args = SFTConfig(
        output_dir=str(folder),
        **ON_CPU,
        learning_rate=0.1,
        lr_scheduler_type="constant",
        per_device_train_batch_size=size,
        gradient_accumulation_steps=6 // size // processes,
    )
    trainer = TeacherTrainer(
        settings,
        tokens,
        model=policy(vocab_size=vocabulary),
        args=args,
        train_dataset=Dataset.from_list(rows(count, settings.responses)),
        processing_class=tiny_tokenizer(),
    )
    trainer.train()
    return [weights.detach().clone() for weights in trainer.model.parameters()], trainer

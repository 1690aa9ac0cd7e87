"""The sources: copies of the target, each fine-tuned on a few families by TRL's SFTTrainer."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from real_world.families import TaskEntry

logger = logging.getLogger(__name__)

LEARNING_RATE = 3e-4
MAX_LENGTH = 256  # tokens
_TOKENIZER_TASKS = 4000


@dataclass(frozen=True)
class Specialist:
    """One source.

    Attributes:
        families: what it learns.
        own_vocabulary: size of a tokenizer of its own; None: the target's.
        epochs: how often it sees its tasks; new embeddings need more.
    """

    families: tuple[str, ...]
    own_vocabulary: int | None = None
    epochs: int = 1


SPECIALISTS: Mapping[str, Specialist] = {
    "numbers": Specialist(("chain_sum", "gcd", "simple_equations")),
    "words": Specialist(("spell_backward", "word_sequence_reversal", "word_sorting")),
    "dates": Specialist(("letter_counting", "calendar_arithmetic"), own_vocabulary=2048, epochs=2),
}


def make_specialist(
    specialist: Specialist,
    target: Path,
    folder: Path,
    *,
    batch_size: int,
    tasks: Sequence[TaskEntry],
    seed: int,
) -> dict[str, Any]:
    """Trains one source and saves it; returns what the manifest says about it.

    Args:
        target: folder of the model that it starts from.
        tasks: those of its families, for training.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

    set_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(target)
    model = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32)
    if specialist.own_vocabulary:
        from real_world.vocabulary import give_vocabulary

        texts = [text for task in tasks[:_TOKENIZER_TASKS] for text in (task.prompt, task.response)]
        tokenizer = give_vocabulary(model, tokenizer, texts, size=specialist.own_vocabulary)
    shuffled = random.Random(f"{folder.name}:{seed}").sample(list(tasks), len(tasks))
    facts = _train(
        model,
        tokenizer,
        shuffled,
        folder,
        epochs=specialist.epochs,
        batch_size=batch_size,
        seed=seed,
    )
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {**facts, "vocabulary": len(tokenizer), "tasks": len(tasks)}


def _train(
    model: Any,
    tokenizer: Any,
    tasks: Sequence[TaskEntry],
    folder: Path,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
) -> dict[str, Any]:
    import torch
    from trl import SFTConfig, SFTTrainer

    from wrpo.train_sft import SFTExample, tokenised

    examples = [SFTExample([{"role": "user", "content": t.prompt}], t.response) for t in tasks]
    dataset, _ = tokenised(examples, tokenizer, fold_system=False, max_length=MAX_LENGTH)
    cuda = torch.cuda.is_available()
    arguments = SFTConfig(
        output_dir=str(folder / "checkpoints"),
        num_train_epochs=epochs,
        per_device_train_batch_size=batch_size,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="cosine",
        warmup_steps=0.1,
        max_length=MAX_LENGTH,
        completion_only_loss=True,
        train_sampling_strategy="group_by_length",
        gradient_checkpointing=False,
        save_strategy="no",
        logging_steps=1,
        report_to="none",
        seed=seed,
        bf16=cuda,
        use_cpu=not cuda,
    )
    trainer = SFTTrainer(
        model=model, args=arguments, train_dataset=dataset, processing_class=tokenizer
    )
    result = trainer.train()
    return {"steps": result.global_step, "loss": round(result.training_loss, 4)}

"""Training on distributions: batches, and steps that do not depend on how they are cut."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch import Tensor
from trl import SFTConfig

from tests.support.tiny_models import tiny_tokenizer
from tests.wrpo.training.small_training import logged, policy
from wrpo.distillation.trainer import LessonCollator, TeacherTrainer
from wrpo.objectives.dckd import DCKDSettings
from wrpo.objectives.fusellm import FuseLLMSettings
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


def test_a_batch_pads_what_is_shorter_and_says_where_something_is_told() -> None:
    both = rows(2, ("source_chosen",), behind=1)
    batch = LessonCollator(("source_chosen",), pad_token_id=0)(both)
    lengths = [len(row["source_chosen_ids"]) for row in both]
    assert batch["labels"].shape == (2, max(lengths) + 1)
    assert batch["mask"].sum(1).tolist() == lengths
    assert batch["told"][0].sum(1).tolist() == [count + 1 for count in lengths]
    short = lengths.index(min(lengths))
    assert (batch["top_logps"][0, short, lengths[short] + 1 :] == -torch.inf).all()
    stored = torch.tensor(both[short]["source_chosen_lessons"][0]["logps"])
    assert torch.equal(batch["top_logps"][0, short, : lengths[short] + 1], stored)


def trained(
    folder: Path, settings: Any, *, size: int, tokens: int | None = None, vocabulary: int = V
) -> tuple[list[Tensor], TeacherTrainer]:
    """Thirteen rows in optimizer steps of six: six, six, and the one that is left."""
    args = SFTConfig(
        output_dir=str(folder),
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
        logging_steps=1,
        optim="sgd",
        learning_rate=0.1,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        num_train_epochs=1,
        per_device_train_batch_size=size,
        gradient_accumulation_steps=6 // size,
    )
    trainer = TeacherTrainer(
        settings,
        tokens,
        model=policy(vocab_size=vocabulary),
        args=args,
        train_dataset=Dataset.from_list(rows(13, settings.responses)),
        processing_class=tiny_tokenizer(),
    )
    trainer.train()
    return [weights.detach().clone() for weights in trainer.model.parameters()], trainer


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [FuseLLMSettings(clm_weight=0.5), DCKDSettings(teacher="one", kl_weight=0.5)]
)
def test_a_step_is_the_mean_over_its_prompts_however_it_is_cut(settings, tmp_path) -> None:
    plain, trainer = trained(tmp_path, settings, size=6)
    start = list(policy().parameters())
    moved = torch.cat([(a - b).flatten() for a, b in zip(plain, start, strict=True)]).norm()
    assert moved > 1e-3 and len(logged(trainer, "loss")) == 3
    for size, tokens in ((2, None), (6, 60)):
        other, again = trained(tmp_path, settings, size=size, tokens=tokens)
        far = torch.cat([(a - b).flatten() for a, b in zip(plain, other, strict=True)]).norm()
        assert far < 1e-5 * moved, (size, tokens)
        assert logged(again, "loss") == pytest.approx(logged(trainer, "loss"), rel=1e-5)
        assert again._total_train_tokens == trainer._total_train_tokens > 0


def test_a_model_with_more_logits_than_tokens_trains(tmp_path) -> None:
    """Configs round their vocabulary up; FuseLLM's released code reads its size off the tokens."""
    _, trainer = trained(tmp_path, FuseLLMSettings(), size=6, vocabulary=V + 26)
    assert all(value > 0 for value in logged(trainer, "clm_loss"))

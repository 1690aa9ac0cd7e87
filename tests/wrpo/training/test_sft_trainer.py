"""Supervised training in micro-batches by tokens equals training in fixed ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from tests.support.tiny_models import tiny_tokenizer
from tests.wrpo.training.small_training import ON_CPU, logged, parameters_after, policy
from wrpo.training.sft_trainer import PackedSFTTrainer


def rows() -> Dataset:
    generator = torch.Generator().manual_seed(0)
    made = []
    for i in range(19):
        count = 8 + (i * 7) % 40 + 80 * (i % 5 == 0)
        ids = torch.randint(6, 262, (count,), generator=generator).tolist()
        made.append({"input_ids": ids, "completion_mask": [0] * 5 + [1] * (count - 5)})
    return Dataset.from_list(made)


def trained(folder: Any, tokens: int | str | None, **options: Any) -> Any:
    args = SFTConfig(
        output_dir=str(folder),
        **ON_CPU,
        learning_rate=0.1,
        lr_scheduler_type="constant",
        max_length=None,
        completion_only_loss=True,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        **options,
    )
    given = {"model": policy(), "args": args, "train_dataset": rows()}
    given["processing_class"] = tiny_tokenizer()
    trainer = SFTTrainer(**given) if tokens is None else PackedSFTTrainer(tokens, **given)
    trainer.weights = parameters_after(trainer)
    return trainer


@pytest.mark.slow
@pytest.mark.parametrize("padding_free", [False, True])
def test_weights_do_not_depend_on_the_budget(tmp_path, padding_free: bool):
    plain = trained(tmp_path, None, padding_free=padding_free)
    start = list(policy().parameters())
    for budget in (1, 200, "auto"):
        ours = trained(tmp_path, budget, padding_free=padding_free)
        assert ours.state.global_step == plain.state.global_step == 3
        assert logged(ours, "loss") == pytest.approx(logged(plain, "loss"), rel=1e-5)
        for left, right, before in zip(ours.weights, plain.weights, start, strict=True):
            torch.testing.assert_close(left, right, rtol=1e-6, atol=1e-7)
            assert not torch.equal(left, before)

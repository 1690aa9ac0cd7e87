"""What training took: tokens of each batch that is forwarded, and those that were sampled."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from wrpo.training.account import Account


def batch(first: int = 1) -> dict[str, torch.Tensor]:
    """Two rows of five tokens, two of which are padding; three tokens are of responses."""
    ids = torch.arange(first, first + 10).view(2, 5)
    mask = torch.tensor([[1] * 5, [1, 1, 1, 0, 0]])
    labels = torch.tensor([[-100, -100, -100, 4, 5], [-100, -100, 3, -100, -100]])
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


class Trainer:
    """A trainer that may put another batch in place of the one that it is given."""

    def __init__(self, replaced: dict[str, torch.Tensor] | None = None) -> None:
        self._replaced = replaced
        self.state = SimpleNamespace(global_step=7, num_input_tokens_seen=99)
        self.accelerator = SimpleNamespace(num_processes=1)

    def training_step(self, model: Any, inputs: Any) -> torch.Tensor:
        inputs = {name: value.clone() for name, value in (self._replaced or inputs).items()}
        return self.compute_loss(model, inputs, num_items_in_batch=2)

    def compute_loss(self, model: Any, inputs: Any, **_: Any) -> torch.Tensor:
        return torch.zeros(())


def facts(trainer: Any, given: Any, steps: int = 2) -> dict[str, Any]:
    account = Account(trainer)
    for _ in range(steps):
        trainer.training_step(None, given)
    return account.facts()


def test_batches_count_without_padding_and_none_is_sampled_that_was_given() -> None:
    found = facts(Trainer(), batch())
    assert found["trained_tokens"] == 16 and "sampled_tokens" not in found
    assert found["counted_from_step"] == 7 and found["peak_memory_mib"] > 0


@pytest.mark.parametrize("other", [batch(2), {n: v[:, :4] for n, v in batch(1).items()}])
def test_tokens_that_a_trainer_puts_in_place_are_sampled(other: dict[str, torch.Tensor]) -> None:
    found = facts(Trainer(other), batch())
    responses = int((other["labels"] != -100).sum())
    assert found["sampled_tokens"] == 2 * responses
    assert found["trained_tokens"] == 2 * int(other["attention_mask"].sum())


def test_a_trainer_that_says_which_slices_it_sampled_is_believed() -> None:
    """GOLD is given the rows of a whole step; slices of it are never what it was given."""

    class Gold(Trainer):
        _buffered_on_policy = (True, False)
        _step = 0

        def training_step(self, model: Any, inputs: Any) -> torch.Tensor:
            self._step += 1
            return super().training_step(model, {n: v[:1] for n, v in inputs.items()})

    found = facts(Gold(), batch(), steps=4)
    assert found["sampled_tokens"] == 2 * 2 and found["trained_tokens"] == 4 * 5


def test_trainers_without_token_ids_count_for_themselves() -> None:
    assert (
        facts(Trainer({"prompt_ids": torch.zeros(1, 2)}), [{"prompt": "x"}])["trained_tokens"] == 99
    )

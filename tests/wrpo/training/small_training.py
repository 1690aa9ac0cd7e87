"""Helpers of the trainer tests.

Parameters are float64, but Llama's norms and TRL's fused head compute in float32 inside, so "equal"
means equal to float32 rounding of log-probabilities of tens of nats.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.tiny_models import tiny_model

ROUNDING = 3e-6
GRADIENT_ROUNDING = 1e-5
ON_CPU: dict[str, Any] = {
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "report_to": "none",
    "disable_tqdm": True,
    "save_strategy": "no",
    "logging_steps": 1,
    "optim": "sgd",
    "max_grad_norm": 0.0,
    "num_train_epochs": 1,
}
"""Arguments of one plain epoch of SFT, of which every step is logged."""


def policy(**options: Any):
    return tiny_model(dtype=torch.float64, **options)


def whole_batch(trainer) -> dict[str, Tensor]:
    data = trainer.train_dataset
    return trainer.data_collator([data[i] for i in range(len(data))])


def loss_and_gradients(trainer) -> tuple[float, dict[str, Tensor]]:
    trainer.model.train()
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, whole_batch(trainer))
    loss.backward()
    gradients = {n: p.grad.clone() for n, p in trainer.model.named_parameters()}
    return loss.item(), gradients


def assert_same(left, right) -> None:
    assert left[0] == pytest.approx(right[0], rel=ROUNDING)
    assert left[1].keys() == right[1].keys()
    for name, gradient in left[1].items():
        assert relative_distance(gradient, right[1][name]) < GRADIENT_ROUNDING, name


def relative_distance(left: Tensor, right: Tensor) -> float:
    return ((left - right).norm() / right.norm()).item()


def logged(trainer, key: str) -> list[float]:
    return [entry[key] for entry in trainer.state.log_history if key in entry]


def parameters_after(trainer) -> list[Tensor]:
    trainer.train()
    return [p.detach().clone() for p in trainer.model.parameters()]

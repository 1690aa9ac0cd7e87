"""The objective on a float64 model, against DPO's formula (arXiv 2305.18290, equation 7) on pairs.

Both sides share plain forward passes, so they agree to float64 rounding; `test_trainer.py` compares
with TRL's own trainer, whose fused head computes in float32.
"""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.support.tiny_models import tiny_model
from wrpo.losses import wrpo_loss

BETA = 0.3
PROMPTS = [[1, 20, 30], [1, 41, 52, 63, 74]]
RESPONSES = {
    "source": [[100, 101, 102, 3], [110, 3]],
    "target": [[120, 121, 3], [130, 131, 132, 133, 3]],
    "rejected": [[140, 3], [150, 151, 152, 3]],
}


@pytest.fixture(scope="module")
def models() -> tuple[torch.nn.Module, torch.nn.Module]:
    return tiny_model(seed=1, dtype=torch.float64), tiny_model(seed=2, dtype=torch.float64)


def log_prob(model: torch.nn.Module, prompt: list[int], response: list[int]) -> Tensor:
    logits = model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1].double()
    return torch.log_softmax(logits, dim=-1).gather(1, torch.tensor(response)[:, None]).sum()


def log_ratios(
    models: tuple[torch.nn.Module, torch.nn.Module], responses: list[list[int]]
) -> Tensor:
    policy, reference = models
    with torch.no_grad():
        base = torch.stack(
            [log_prob(reference, p, a) for p, a in zip(PROMPTS, responses, strict=True)]
        )
    return (
        torch.stack([log_prob(policy, p, a) for p, a in zip(PROMPTS, responses, strict=True)])
        - base
    )


def gradients(model: torch.nn.Module, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters())))


def wrpo(models, alpha: float, **responses: list[list[int]]) -> Tensor:
    chosen = {**RESPONSES, **responses}
    ratios = [log_ratios(models, chosen[name]) for name in ("source", "target", "rejected")]
    return wrpo_loss(*ratios, alpha=alpha, beta=BETA).mean()


def dpo(models, preferred: str) -> Tensor:
    margin = log_ratios(models, RESPONSES[preferred]) - log_ratios(models, RESPONSES["rejected"])
    return -F.logsigmoid(BETA * margin).mean()


@pytest.mark.parametrize(("alpha", "preferred"), [(0.0, "target"), (1.0, "source")])
def test_the_extremes_of_alpha_are_dpo_in_loss_and_gradients(models, alpha, preferred) -> None:
    ours, theirs = wrpo(models, alpha), dpo(models, preferred)
    assert ours.dtype == torch.float64
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-14)
    for left, right in zip(gradients(models[0], ours), gradients(models[0], theirs), strict=True):
        assert torch.allclose(left, right, rtol=1e-10, atol=1e-13)


def test_alpha_in_between_is_neither(models) -> None:
    middle = wrpo(models, 0.5).item()
    assert abs(middle - dpo(models, "target").item()) > 1e-3
    assert abs(middle - dpo(models, "source").item()) > 1e-3


def test_equal_preferred_answers_give_the_same_loss_for_every_alpha(models) -> None:
    losses = [
        wrpo(models, alpha, source=RESPONSES["target"]).item() for alpha in (0.0, 0.1, 0.37, 1.0)
    ]
    assert losses == pytest.approx([losses[0]] * 4, rel=1e-14)


def test_a_policy_equal_to_its_reference_starts_at_ln_2(models) -> None:
    loss = wrpo((models[0], models[0]), 0.3)
    assert loss.item() == pytest.approx(0.6931471805599453, rel=1e-15)

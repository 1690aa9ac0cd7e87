"""The budget of tokens, on a device whose memory the test makes up."""

from __future__ import annotations

import pytest
import torch

from wrpo.training.batches.token_budget import TokenBudget, batches_that_fit
from wrpo.training.settings import CPU_TOKENS, MOST_TOKENS

GIB = 1 << 30


class MadeUp:
    """A device on which a pass takes a fixed part and so much per token."""

    def __init__(self, *, room: float, weights: float, each: float, fixed: float = 0.0) -> None:
        self._room, self._held = room, weights
        self.each, self.fixed, self._peak = each, fixed, 0.0

    def held(self) -> int:
        return int(self._held)

    def peak(self) -> int:
        return int(self._peak)

    def reset(self) -> None:
        self._peak = self._held

    def room(self) -> int:
        return int(self._room)

    def compute(self, tokens: int, *, gradients: float) -> None:
        """A forward and a backward pass, which leaves the gradients."""
        grown = gradients if self._gradients_are_missing else 0.0
        self._peak = max(self._peak, self._held + self.fixed + self.each * tokens + grown)
        self._held += grown
        self._gradients_are_missing = False

    _gradients_are_missing = True

    def optimize(self, *, gradients: float, state: float) -> None:
        """An optimizer step: its state stays, the gradients go."""
        self._held += state - gradients
        self._gradients_are_missing = True


def step(budget: TokenBudget, device: MadeUp, sizes: list[int], *, gradients: float, state: float):
    budget.begin_step()
    for tokens in sizes:
        with budget.micro_batch(tokens):
            device.compute(tokens, gradients=gradients)
    budget.end_step()
    device.optimize(gradients=gradients, state=state)


@pytest.mark.parametrize("fixed", [0.0, 0.5 * GIB])
@pytest.mark.parametrize("sizes", [[4000] * 4, [4000]], ids=["many", "one"])
def test_what_is_measured_fills_the_memory_and_no_more(fixed: float, sizes: list[int]):
    device = MadeUp(room=80 * GIB, weights=16 * GIB, each=2e6, fixed=fixed)
    budget = TokenBudget("auto", longest=3000, meter=device)
    assert budget.tokens == 4096
    for turn in range(3):
        assert budget.measures
        assert budget.noted == (turn > 0)
        if turn:
            budget.settle(budget.refit())
        sizes = sizes if not turn else [budget.tokens] * len(sizes)
        step(budget, device, sizes, gradients=8 * GIB, state=16 * GIB * (turn == 0))
    budget.settle(budget.refit())
    assert not budget.measures
    # 32 GiB are held by weights and optimizer, 8 by gradients.
    fits = (0.9 * 80 * GIB - 40 * GIB - fixed) / 2e6
    assert budget.tokens <= fits
    assert budget.tokens >= 0.9 * fits


def test_a_budget_never_grows_beyond_what_helps():
    device = MadeUp(room=1000 * GIB, weights=GIB, each=1e4)
    budget = TokenBudget("auto", longest=10, meter=device)
    for _ in range(3):
        step(budget, device, [budget.tokens] * 2, gradients=0, state=0)
        budget.settle(budget.refit())
    assert budget.tokens == MOST_TOKENS


def test_a_row_that_is_longer_than_what_fits_is_still_tried():
    device = MadeUp(room=20 * GIB, weights=18 * GIB, each=2e6)
    budget = TokenBudget("auto", longest=9000, meter=device)
    step(budget, device, [9000], gradients=0, state=0)
    assert budget.refit() == 9000


def test_fixed_numbers_are_kept_and_not_measured():
    device = MadeUp(room=80 * GIB, weights=GIB, each=1e6)
    for asked, meter, tokens in ((700, device, 700), (700, None, 700), ("auto", None, CPU_TOKENS)):
        budget = TokenBudget(asked, longest=100, meter=meter)
        assert (budget.tokens, budget.measures) == (tokens, False)
    assert TokenBudget("auto", longest=9999, meter=None).tokens == 9999


def test_batches_that_do_not_fit_are_made_again_in_halves():
    computed = []

    def plan(items, tokens):
        each = max(1, tokens // 10)
        return [list(range(i, min(i + each, len(items)))) for i in range(0, len(items), each)]

    def compute(items):
        if sum(items) > 60 and len(items) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        computed.append(items)
        return [10 * item for item in items]

    items, budget = [1, 2, 3, 4, 30, 20, 15, 5, 6], TokenBudget(40, longest=0, meter=None)
    found = dict(
        pair
        for places, results in batches_that_fit(items, budget, plan=plan, compute=compute)
        for pair in zip(places, results, strict=True)
    )
    assert found == {place: 10 * item for place, item in enumerate(items)}
    assert computed == [[1, 2, 3, 4], [30, 20], [15, 5], [6]]
    with pytest.raises(torch.OutOfMemoryError):
        list(
            batches_that_fit(
                [90] * 3,
                TokenBudget(30, longest=0, meter=None),
                plan=plan,
                compute=lambda _: (_ for _ in ()).throw(torch.OutOfMemoryError()),
            )
        )


def test_it_is_halved_once(caplog: pytest.LogCaptureFixture):
    budget = TokenBudget(1000, longest=10, meter=None)
    with caplog.at_level("WARNING"):
        assert budget.halve()
    assert budget.tokens == 500
    assert "at most 500 tokens" in caplog.text
    assert not budget.halve()

"""The budget of tokens, on a device whose memory the test makes up."""

from __future__ import annotations

import pytest
import torch

from tests.wrpo.training.batches.made_up_memory import GIB, MadeUp
from wrpo.training.batches.token_budget import TokenBudget, batches_that_fit
from wrpo.training.settings import CPU_TOKENS, MOST_TOKENS


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


def scored(device: MadeUp, budget: TokenBudget, rows: list[int]) -> list[list[int]]:
    """The batches, in tokens of their rows, in which rows of so many tokens are computed."""
    computed: list[list[int]] = []

    def plan(lengths, tokens):
        batches: list[list[int]] = []
        for place, length in enumerate(lengths):
            if batches and sum(lengths[i] for i in batches[-1]) + length <= tokens:
                batches[-1].append(place)
            else:
                batches.append([place])
        return batches

    def compute(lengths):
        with budget.micro_batch(sum(lengths)):
            device.compute(sum(lengths), gradients=0)
        computed.append(lengths)
        return lengths

    found = dict(
        pair
        for places, results in batches_that_fit(rows, budget, plan=plan, compute=compute)
        for pair in zip(places, results, strict=True)
    )
    assert found == dict(enumerate(rows))
    return computed


def test_passes_without_gradients_measure_their_first_batches():
    device = MadeUp(room=24 * GIB, weights=16 * GIB, each=2e5, fixed=0.2 * GIB)
    budget = TokenBudget("auto", longest=0, meter=device)
    batches = scored(device, budget, [1000] * 150)
    assert [len(batch) for batch in batches[:2]] == [4, 23]
    fits = (0.9 * 24 * GIB - 16 * GIB - 0.2 * GIB) / 2e5
    assert 0.9 * fits <= budget.tokens <= fits
    assert len(batches[-2]) == budget.tokens // 1000
    assert not budget.measures
    before = len(batches)
    assert len(scored(device, budget, [1000] * 20)) == 1, "the next rows start with it"
    assert before < 12


def test_batches_that_are_far_from_full_are_not_measured():
    device = MadeUp(room=80 * GIB, weights=16 * GIB, each=2e5, fixed=GIB)
    budget = TokenBudget("auto", longest=0, meter=device)
    for _ in range(5):
        scored(device, budget, [100])
    assert budget.measures
    assert budget.tokens == 4096
    scored(device, budget, [2100])
    assert budget.tokens > 4096

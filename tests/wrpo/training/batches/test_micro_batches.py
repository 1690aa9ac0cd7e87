"""Micro-batches by tokens: the same steps whatever the budget."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import chain
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.utils import DistributedType
from datasets import Dataset

from tests.support.recipe_files import tiny_recipe
from tests.wrpo.training.batches.balanced_run import uneven_triples
from tests.wrpo.training.small_training import logged, parameters_after, policy
from wrpo.errors import RecipeError
from wrpo.objectives.cgpo import CGPOSettings
from wrpo.objectives.wrpo import WRPOSettings
from wrpo.recipe import preference
from wrpo.training.batches.agreement import Agreement
from wrpo.training.batches.micro_batches import Costs, WholeSteps, micro_batches
from wrpo.training.batches.token_budget import TokenBudget

ROWS = Dataset.from_list(uneven_triples(19))
STEPS = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
SGD = {"optim": "sgd", "learning_rate": 0.1, "max_grad_norm": 0.0}


# --- cutting ---


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_every_row_is_in_one_batch_and_all_processes_have_as_many(seed: int, padded: bool):
    draw = random.Random(seed)
    ranks = draw.choice([1, 2, 3, 8])
    rows = [draw.randint(1, 200) for _ in range(ranks * draw.randint(1, 9) + draw.randint(0, 5))]
    costs, budget = Costs(rows, padded), draw.choice([1, 50, 300, 2000])
    lists = micro_batches(costs, budget, ranks=ranks)
    assert sorted(chain(*lists)) == list(range(len(rows)))
    assert len(lists) % ranks == 0
    assert all(lists)
    most = len(rows) // ranks * ranks
    if len(lists) < most:
        assert all(len(batch) == 1 or costs.of(batch) <= budget for batch in lists)
    assert [costs.of(batch) for batch in lists[:1]] == [max(map(costs.of, lists))] or padded


@pytest.mark.parametrize("padded", [False, True])
def test_a_larger_budget_needs_no_more_batches_and_an_endless_one_a_single_one(padded: bool):
    costs = Costs([random.Random(1).randint(5, 90) for _ in range(40)], padded)
    counts = [len(micro_batches(costs, budget, ranks=1)) for budget in (1, 100, 300, 900, 10**9)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == 40
    assert counts[-1] == 1


def test_batches_of_a_round_cost_about_the_same():
    draw = random.Random(2)
    costs = Costs([draw.randint(50, 500) for _ in range(128)], padded=False)
    lists = micro_batches(costs, 4000, ranks=8)
    for i in range(0, len(lists), 8):
        of_round = [costs.of(batch) for batch in lists[i : i + 8]]
        assert max(of_round) <= 1.05 * min(of_round)


@pytest.mark.parametrize(
    ("count", "drop_last", "sizes"),
    [(19, False, [8, 8, 3]), (19, True, [8, 8]), (17, False, [8, 8, 2])],
)
def test_whole_steps_are_consecutive_runs_of_the_order(count: int, drop_last: bool, sizes):
    order = random.Random(0).sample(range(count), count)
    sampler = WholeSteps(order, count, rows=8, ranks=2, drop_last=drop_last)
    steps = list(sampler)
    assert [len(step) for step in steps] == sizes
    assert len(sampler) == len(sizes)
    if count == 17:
        assert steps[2] == [order[16], order[0]], "one row for each of two processes"
    else:
        assert list(chain(*steps)) == order[: sum(sizes)]


# --- training ---


def untrained(make_trainer, **options: Any) -> Any:
    return make_trainer(
        train_dataset=ROWS,
        ref_model=policy(seed=1),
        alpha=0.4,
        likelihood_weight=0.3,
        **{**SGD, **STEPS, "num_train_epochs": 1, **options},
    )


def trained(make_trainer, **options: Any) -> Any:
    trainer = untrained(make_trainer, **options)
    trainer.weights = parameters_after(trainer)
    return trainer


def batches_of(trainer: Any) -> list[int]:
    """Number of micro-batches of each optimizer step of an epoch."""
    return [len(step.batches) for step in _steps(trainer)]


def _steps(trainer: Any) -> Iterator[Any]:
    for step in trainer.get_train_dataloader():
        trainer._cut(step)
        yield step


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["prefix", "padded"])
def test_weights_and_logs_do_not_depend_on_the_budget(make_trainer, layout: str):
    plain = trained(make_trainer, triple_layout=layout)
    start = list(policy().parameters())
    counts = []
    for budget in (1, 400, 100_000):
        ours = trained(make_trainer, triple_layout=layout, micro_batch_tokens=budget)
        counts.append(batches_of(ours))
        for left, right, before in zip(ours.weights, plain.weights, start, strict=True):
            torch.testing.assert_close(left, right, rtol=1e-6, atol=1e-7)
            assert not torch.equal(left, before)
        for key in ("loss", "rewards/margins", "logps/rejected", "entropy", "num_tokens", "alpha"):
            assert logged(ours, key) == pytest.approx(logged(plain, key), rel=1e-5), key
        assert ours.state.global_step == plain.state.global_step == 3
    assert counts[0] == [8, 8, 3]
    assert counts[2] == [1, 1, 1]
    assert sum(counts[0]) > sum(counts[1]) > sum(counts[2])


@pytest.mark.slow
def test_a_run_resumed_inside_an_epoch_equals_the_uninterrupted_one(make_trainer, tmp_path):
    options = {"micro_batch_tokens": 200, "save_strategy": "steps", "save_steps": 2}
    options["output_dir"] = str(tmp_path / "run")
    whole = trained(make_trainer, **options)
    resumed = untrained(make_trainer, **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))
    for left, right in zip(whole.weights, resumed.model.parameters(), strict=True):
        assert torch.equal(left, right)
    assert logged(resumed, "loss") == logged(whole, "loss")


def test_a_step_that_does_not_fit_is_computed_again_in_halves(make_trainer, monkeypatch, caplog):
    whole = trained(make_trainer, micro_batch_tokens=1000)
    ours = untrained(make_trainer, micro_batch_tokens=1000)
    compute, sizes = ours.compute_loss, []

    def scarce(model, inputs, **options):
        sizes.append(inputs["input_ids"].numel())
        loss = compute(model, inputs, **options)
        if sizes[-1] > 500:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return loss

    monkeypatch.setattr(ours, "compute_loss", scarce)
    with caplog.at_level("WARNING"):
        after = parameters_after(ours)
    assert "at most 500 tokens" in caplog.text
    assert sum(size > 500 for size in sizes) == 1
    for left, right in zip(after, whole.weights, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-6, atol=1e-7)
    for key in ("loss", "rewards/margins", "num_tokens"):
        assert logged(ours, key) == pytest.approx(logged(whole, key), rel=1e-5), key


def test_memory_that_is_short_twice_ends_the_run(make_trainer, monkeypatch):
    ours = make_trainer(train_dataset=ROWS, micro_batch_tokens=1000, **STEPS)

    def never(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(ours, "compute_loss", never)
    with pytest.raises(
        RecipeError, match="at most 500 tokens, and half of .*engine.batch_tokens .* 250"
    ):
        ours.train()


class Sharded:
    """What an Agreement reads of an accelerator whose processes meet in every layer."""

    num_processes = 2

    def __init__(self, kind: DistributedType) -> None:
        self.distributed_type = kind
        self.gradient_state = SimpleNamespace(plugin_kwargs={})


@pytest.mark.parametrize("kind", [DistributedType.FSDP, DistributedType.DEEPSPEED])
def test_sharded_weights_end_the_run_with_the_key_to_change(make_trainer, monkeypatch, kind):
    ours = make_trainer(train_dataset=ROWS, micro_batch_tokens=1000, **STEPS)
    ours._agreement = Agreement(Sharded(kind))
    tried = []

    def never(*_: Any, **__: Any) -> None:
        tried.append(1)
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(ours, "compute_loss", never)
    with pytest.raises(
        RecipeError, match=rf"sharded \({kind.name}\).*engine.batch_tokens .* to 500 "
    ):
        ours.train()
    assert len(tried) == 1, "the others would wait in a layer that this one never comes to"


def test_a_row_that_is_too_long_by_itself_is_told():
    budget = TokenBudget(100, longest=5000, meter=None)
    assert "longest row has 5,000 of them: lower truncation.max_length" in budget.too_large("x")


@pytest.mark.parametrize("value", [0, -5, "many", "1.5"])
def test_a_budget_that_is_none_is_refused(make_config, value):
    with pytest.raises(RecipeError, match="micro_batch_tokens"):
        make_config(micro_batch_tokens=value)


def test_cgpo_is_refused_because_rows_share_a_mean(make_config):
    with pytest.raises(RecipeError, match="which rows share a forward pass"):
        make_config(micro_batch_tokens="auto", objective="cgpo")


def test_rows_are_counted_where_tokens_cannot_decide(tmp_path):
    plain = {"objective": "cgpo", "train": {"learning_rate": 1e-3}}
    assert CGPOSettings(**plain).engine.per_device_batch_size == 1
    assert WRPOSettings().engine.per_device_batch_size == "auto"
    with pytest.raises(ValueError, match="per_device_batch_size as a number"):
        CGPOSettings(**plain, engine={"per_device_batch_size": "auto"})
    by_tokens = tiny_recipe(
        tmp_path, "wrpo.engine.per_device_batch_size=auto", "arms.c.objective=cgpo"
    )
    assert preference(by_tokens, "c").engine.per_device_batch_size == 1


def test_the_number_of_tokens_seen_is_that_of_all_micro_batches(make_trainer):
    ours = make_trainer(
        train_dataset=ROWS,
        micro_batch_tokens=400,
        triple_layout="prefix",
        include_num_input_tokens_seen="all",
        num_train_epochs=1,
        **STEPS,
    )
    seen = sum(batch["input_ids"].numel() for step in _steps(ours) for batch in step.batches)
    ours.train()
    assert ours.state.num_input_tokens_seen == seen


@pytest.mark.parametrize(
    "options",
    [
        {"train_sampling_strategy": "batch_rebalance"},
        {"accelerator_config": {"split_batches": True}},
    ],
    ids=str,
)
def test_others_that_divide_rows_are_refused(make_trainer, options):
    trainer = make_trainer(train_dataset=ROWS, micro_batch_tokens="auto", **options)
    with pytest.raises(RecipeError, match="divide rows too"):
        trainer.get_train_dataloader()


def test_streamed_rows_are_refused(make_trainer):
    rows = ROWS.to_iterable_dataset()
    trainer = make_trainer(train_dataset=rows, micro_batch_tokens="auto", max_steps=1)
    with pytest.raises(RecipeError, match="streamed"):
        trainer.train()


def test_order_of_other_strategies_is_kept(make_trainer):
    options = {"train_sampling_strategy": "sequential", "micro_batch_tokens": "auto", **STEPS}
    trainer = make_trainer(train_dataset=ROWS, **options)
    assert list(chain(*trainer._get_train_sampler())) == list(range(19))

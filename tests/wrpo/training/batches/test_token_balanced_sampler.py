"""Balanced micro-batches: same prompts per optimizer step, equal costs, same weights."""

import random
from itertools import chain

import pytest
import torch
from accelerate import skip_first_batches
from accelerate.data_loader import prepare_data_loader
from datasets import Dataset
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler

from tests.support.recipe_files import tiny_recipe
from tests.wrpo.training.batches.balanced_run import uneven_triples
from tests.wrpo.training.small_training import logged, parameters_after, policy
from wrpo.errors import RecipeError
from wrpo.training.batches.token_balanced_sampler import BalancedBatchSampler, balanced

ROWS = Dataset.from_list(uneven_triples(19))
# 8 rows per optimizer step; the last one of an epoch has 3.
ACCUMULATED = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}


def random_costs(count: int, seed: int) -> list[int]:
    draw = random.Random(seed)
    return [round(draw.lognormvariate(5, 0.5)) + 1 for _ in range(count)]


def samplers(rows: int, ranks: int, **options) -> list[BalancedBatchSampler]:
    """One sampler per rank over the rows in their order."""
    return [
        BalancedBatchSampler(
            SequentialSampler(range(rows)),
            random_costs(rows, seed=rows),
            ranks=ranks,
            rank=rank,
            **options,
        )
        for rank in range(ranks)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_every_item_is_in_one_list_and_no_list_is_empty_or_far_above_the_mean(seed):
    draw = random.Random(seed)
    buckets = draw.randint(1, 12)
    costs = random_costs(draw.randint(buckets, 6 * buckets), seed)
    lists = balanced(costs, buckets)
    assert sorted(chain(*lists)) == list(range(len(costs)))
    assert len(lists) == buckets and all(lists)
    sums = [sum(costs[i] for i in places) for places in lists]
    assert sums == sorted(sums, reverse=True)
    # The last item put on the costliest list met the smallest sum, which is below the mean.
    costliest = lists[0]
    if len(costliest) > 1:
        assert sums[0] <= sum(costs) / buckets + costs[costliest[-1]]


def test_rows_without_cost_fill_empty_lists_first():
    assert all(balanced([0, 0, 7, 0], 4))


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
@pytest.mark.parametrize("rows", [1, 7, 48, 59, 100])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_ranks_share_the_consecutive_rows_of_each_step(ranks, rows, batch_size):
    own = samplers(rows, ranks, batch_size=batch_size, accumulation=3)
    batches = [list(sampler) for sampler in own]
    assert {len(b) for b in batches} == {len(sampler) for sampler in own}, "ranks would hang"
    rounds = list(zip(*batches, strict=True))
    size = batch_size * ranks * 3
    for start in range(0, rows, size):
        step = [rows_ for one in rounds[start // size * 3 :][:3] for rows_ in one]
        expected = list(range(start, min(start + size, rows)))
        missing = max(0, ranks - len(expected))
        refill = [i % rows for i in range(missing)]
        assert sorted(chain(*step)) == sorted(expected + refill)
        assert all(step)


@pytest.mark.parametrize(("rows", "steps"), [(96, 2), (97, 3), (131, 3)])
def test_an_epoch_has_as_many_optimizer_steps_as_without_balancing(rows, steps):
    for sampler in samplers(rows, 4, batch_size=2, accumulation=6):
        assert -(-len(sampler) // 6) == steps


def test_drop_last_drops_what_fills_no_round_on_all_ranks():
    own = samplers(23, 2, batch_size=2, accumulation=4, drop_last=True)
    batches = [list(sampler) for sampler in own]
    assert [len(b) for b in batches] == [len(sampler) for sampler in own] == [5, 5]
    assert sorted(chain(*chain(*batches))) == list(range(20))


def test_no_rank_has_the_dearer_micro_batch_of_every_round():
    own = samplers(128, 2, batch_size=2, accumulation=32)
    costs = own[0].costs
    dearer = [
        sum(costs[row] for row in a) > sum(costs[row] for row in b)
        for a, b in zip(*own, strict=True)
    ]
    assert 8 < sum(dearer) < 24


@pytest.mark.parametrize("ranks", [1, 2])
def test_accelerate_seeds_the_order_and_a_resumed_loader_goes_on_in_it(ranks):
    def loader(rank: int) -> DataLoader:
        torch.manual_seed(0)
        sampler = BalancedBatchSampler(
            RandomSampler(range(50)),
            random_costs(50, seed=1),
            batch_size=2,
            ranks=ranks,
            rank=rank,
            accumulation=3,
        )
        loader = DataLoader(range(50), batch_sampler=sampler, collate_fn=list)
        # As transformers has it: one process, since the sampler knows its rank.
        return prepare_data_loader(
            loader, num_processes=1, process_index=0, use_seedable_sampler=True
        )

    seen = []
    for rank in range(ranks):
        whole, other = loader(rank), loader(rank)
        epochs = []
        for epoch in (0, 1):
            whole.set_epoch(epoch)
            epochs.append(list(whole))
        resumed = skip_first_batches(other, 4)
        resumed.set_epoch(1)
        assert list(resumed) == epochs[1][4:]
        assert epochs[0] != epochs[1]
        seen.append(epochs[1])
    torch.manual_seed(0)
    plain = prepare_data_loader(
        DataLoader(range(50), batch_size=6 * ranks, shuffle=True, collate_fn=list),
        num_processes=1,
        process_index=0,
        use_seedable_sampler=True,
    )
    plain.set_epoch(1)
    for i, step in enumerate(plain):
        own = chain(*(rows for batches in seen for rows in batches[3 * i : 3 * i + 3]))
        assert sorted(own) == sorted(step)


def test_trainer_puts_the_prompts_of_each_unbalanced_step_into_unequal_micro_batches(make_trainer):
    def epoch(number: int, **options) -> list[list[int]]:
        trainer = make_trainer(train_dataset=ROWS, **ACCUMULATED, **options)
        loader = trainer.get_train_dataloader()
        loader.set_epoch(number)
        batches = list(loader.batch_sampler)
        assert len(loader) == len(batches)
        return batches

    for number in (0, 1):
        ours, plain = epoch(number), epoch(number, balance_micro_batches=False)
        assert [len(b) for b in plain] == [2] * 9 + [1]
        assert [len(b) for b in ours] != [len(b) for b in plain]
        assert len(ours) == len(plain)
        for start in (0, 4, 8):
            step = slice(start, start + 4)
            assert sorted(chain(*ours[step])) == sorted(chain(*plain[step]))


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["padded", "prefix"])
def test_weights_and_logs_equal_those_of_the_unbalanced_run(make_trainer, layout):
    options = {
        "train_dataset": ROWS,
        "optim": "sgd",
        "learning_rate": 0.1,
        "max_grad_norm": 0.0,
        "num_train_epochs": 2,
        "alpha": 0.4,
        "likelihood_weight": 0.3,
        "triple_layout": layout,
        **ACCUMULATED,
    }
    ours = make_trainer(**options, ref_model=policy(seed=1))
    plain = make_trainer(**options, ref_model=policy(seed=1), balance_micro_batches=False)
    start = [p.detach().clone() for p in ours.model.parameters()]
    after = parameters_after(ours)
    for left, right, before in zip(after, parameters_after(plain), start, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-6, atol=1e-7)
        assert not torch.equal(left, before)
    for key in ("loss", "rewards/margins", "logps/rejected", "entropy", "num_tokens", "alpha"):
        assert logged(ours, key) == pytest.approx(logged(plain, key), rel=1e-5), key
    assert len(logged(ours, "loss")) == 6


def test_run_resumed_inside_an_epoch_equals_the_uninterrupted_one(make_trainer, tmp_path):
    options = {
        "train_dataset": ROWS,
        "num_train_epochs": 2,
        "save_strategy": "steps",
        "save_steps": 4,
        "output_dir": str(tmp_path / "run"),
        **ACCUMULATED,
    }
    whole = make_trainer(**options)
    whole.train()
    resumed = make_trainer(**options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-4"))
    for key in ("loss", "rewards/margins", "logps/source_chosen"):
        assert logged(resumed, key) == logged(whole, key)
    for left, right in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(left, right)


@pytest.mark.parametrize(
    "options",
    [
        {"balance_micro_batches": False},
        {"train_sampling_strategy": "sequential"},
        {"train_sampling_strategy": "group_by_length"},
        {"train_sampling_strategy": "batch_rebalance"},
        {"accelerator_config": {"split_batches": True}},
    ],
    ids=lambda options: "-".join(map(str, chain(*options.items()))),
)
def test_order_is_left_alone_when_switched_off_or_decided_elsewhere(make_trainer, options):
    trainer = make_trainer(train_dataset=ROWS, **options)
    assert not isinstance(trainer._get_train_sampler(), BalancedBatchSampler)


@pytest.mark.parametrize("balance", [True, False])
def test_recipe_switches_it_and_sft_refuses_it(tmp_path, balance):
    recipe = tiny_recipe(tmp_path, f"wrpo.engine.balance_micro_batches={balance}".lower())
    assert recipe.wrpo.engine.balance_micro_batches is balance
    with pytest.raises(RecipeError, match="balance_micro_batches"):
        tiny_recipe(tmp_path, "sft.engine.balance_micro_batches=true")


def test_streamed_rows_are_taken_as_they_come(make_trainer):
    rows = ROWS.to_iterable_dataset()
    trainer = make_trainer(train_dataset=rows, max_steps=1, per_device_train_batch_size=2)
    trainer.train()
    assert trainer.state.global_step == 1

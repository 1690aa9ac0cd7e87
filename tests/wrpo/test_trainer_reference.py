"""Where reference log-probabilities come from."""

import math

import pytest
import torch
from peft import LoraConfig

from tests.wrpo.training.small_training import logged, parameters_after, policy, whole_batch
from wrpo.errors import DataError, RecipeError
from wrpo.trainer import WRPOTrainer


def reference_columns(trainer) -> dict[str, list[float]]:
    logps = trainer._reference_pass(trainer.ref_model, whole_batch(trainer))
    names = ("ref_source_chosen_logps", "ref_chosen_logps", "ref_rejected_logps")
    return dict(zip(names, logps.T.tolist(), strict=True))


@pytest.fixture
def with_reference(make_trainer, triples):
    columns = reference_columns(make_trainer(ref_model=policy(seed=1)))
    for name, values in columns.items():
        triples = triples.add_column(name, values)
    return triples


def test_supplied_columns_equal_the_reference_model_without_loading_one(
    make_trainer, with_reference
):
    common = {"num_train_epochs": 2, "alpha": 0.4}
    supplied = make_trainer(train_dataset=with_reference, **common)
    on_the_fly = make_trainer(ref_model=policy(seed=1), **common)
    assert supplied.ref_model is None
    for left, right in zip(parameters_after(supplied), parameters_after(on_the_fly), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-7)
    assert logged(supplied, "loss") == pytest.approx(logged(on_the_fly, "loss"), rel=1e-5)
    assert logged(supplied, "loss")[0] != pytest.approx(math.log(2), abs=1e-3)


def test_supplied_columns_serve_pairs_too(make_trainer, with_reference):
    trainer = make_trainer(train_dataset=with_reference, objective="dpo", max_steps=1)
    reference = make_trainer(ref_model=policy(seed=1), objective="dpo", max_steps=1)
    trainer.train()
    reference.train()
    assert logged(trainer, "loss") == pytest.approx(logged(reference, "loss"), rel=1e-5)


@pytest.mark.slow
def test_precomputed_reference_equals_the_reference_model(make_trainer, triples):
    common = {"num_train_epochs": 2, "alpha": 0.4, "eval_dataset": triples}
    precomputed = make_trainer(precompute_ref_log_probs=True, **common)
    on_the_fly = make_trainer(**common)
    assert precomputed.ref_model is None
    precomputed.train()
    on_the_fly.train()
    assert logged(precomputed, "loss") == pytest.approx(logged(on_the_fly, "loss"), rel=1e-5)
    assert precomputed.evaluate()["eval_loss"] == pytest.approx(
        on_the_fly.evaluate()["eval_loss"], rel=1e-5
    )


@pytest.mark.parametrize(
    ("options", "precomputed"),
    [
        ({}, True),
        ({"num_train_epochs": 0.5}, False),
        ({"max_steps": 1}, False),
        ({"max_steps": 2}, True),
        ({"max_steps": 1, "micro_batch_tokens": 99, "gradient_accumulation_steps": 2}, True),
        ({"disable_dropout": False}, False),
        ({"reference_free": True}, False),
        ({"ref_model": "other"}, False),
        ({"peft_config": LoraConfig(r=4, task_type="CAUSAL_LM")}, False),
        ({"train_dataset": "columns"}, False),
        ({"train_dataset": "streamed", "max_steps": 9}, False),
        ({"precompute_ref_log_probs": False}, False),
        ({"precompute_ref_log_probs": True, "max_steps": 1}, True),
    ],
    ids=str,
)
def test_a_pass_is_made_where_it_is_no_dearer(
    make_trainer, with_reference, triples, options, precomputed
):
    """Eight rows, four of them in a step."""
    given = {"precompute_ref_log_probs": None, **options}
    if "ref_model" in options:
        given["ref_model"] = policy(seed=1)
    sets = {"columns": with_reference, "streamed": triples.to_iterable_dataset()}
    if "train_dataset" in options:
        given["train_dataset"] = sets[options["train_dataset"]]
    trainer = make_trainer(**given)
    assert trainer.precompute_ref_logps is trainer.args.precompute_ref_log_probs is precomputed
    needs_model = not (precomputed or {"reference_free", "peft_config"} & options.keys())
    needs_model &= options.get("train_dataset") != "columns"
    assert (trainer.ref_model is not None) == needs_model
    assert trainer.args.precompute_ref_batch_size == 4


def test_the_default_reference_gives_the_losses_of_a_frozen_copy(make_trainer):
    losses = []
    for precomputed in (None, False):
        options = {"num_train_epochs": 1, "alpha": 0.4, "precompute_ref_log_probs": precomputed}
        trainer = make_trainer(micro_batch_tokens=150, **options)
        assert (trainer.ref_model is None) == (precomputed is None)
        trainer.train()
        losses.append(logged(trainer, "loss"))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert losses[0][0] == pytest.approx(math.log(2), abs=1e-6)


def passes_before_training(make_trainer, **options):
    """Reference columns, and the tokens of each forward pass that made them."""
    model, sizes = policy(), []
    model.register_forward_pre_hook(
        lambda _, arguments, options: sizes.append(options["input_ids"].numel()), with_kwargs=True
    )
    trainer = make_trainer(model=model, precompute_ref_log_probs=True, **options)
    columns = [name for name in trainer.train_dataset.column_names if name.startswith("ref_")]
    found = torch.tensor([trainer.train_dataset[name] for name in columns])
    return found, sizes


@pytest.mark.parametrize(("layout", "some"), [("prefix", [1, 2]), ("padded", [2, 3])])
def test_the_pass_before_training_is_cut_by_tokens(make_trainer, layout, some):
    by_rows, sizes = passes_before_training(make_trainer, triple_layout=layout)
    counts = [len(sizes)]
    for tokens in (5000, 1000, 500, 1):
        options = {"triple_layout": layout, "micro_batch_tokens": tokens}
        found, sizes = passes_before_training(make_trainer, **options)
        torch.testing.assert_close(found, by_rows, rtol=1e-6, atol=1e-6)
        assert max(sizes) <= tokens or tokens == 1
        counts.append(len(sizes))
    trials = 2 if layout == "prefix" else 0
    assert [count - trials for count in counts] == [2, 1, *some, 8]
    options = {"micro_batch_tokens": 1, "precompute_ref_batch_size": 4}
    found, sizes = passes_before_training(make_trainer, triple_layout=layout, **options)
    assert len(sizes) - trials == 2, "a number that is written stays"


def test_the_pass_before_training_is_made_in_halves_where_memory_is_short(
    make_trainer, monkeypatch, caplog
):
    by_rows, _ = passes_before_training(make_trainer)
    compute, sizes = WRPOTrainer._forward, []

    def scarce(self, model, inputs):
        sizes.append(inputs["input_ids"].numel())
        if sizes[-1] > 300:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return compute(self, model, inputs)

    monkeypatch.setattr(WRPOTrainer, "_forward", scarce)
    with caplog.at_level("WARNING"):
        found, _ = passes_before_training(make_trainer, micro_batch_tokens=500)
    assert "at most 250 tokens" in caplog.text
    assert sum(size > 300 for size in sizes) == 1
    torch.testing.assert_close(found, by_rows, rtol=1e-6, atol=1e-6)
    with pytest.raises(torch.OutOfMemoryError):
        passes_before_training(make_trainer, micro_batch_tokens=5000)


def test_precomputed_pairs_leave_no_source_column_behind(make_trainer):
    trainer = make_trainer(precompute_ref_log_probs=True, objective="dpo", max_steps=1)
    assert "ref_source_chosen_logps" not in trainer.train_dataset.column_names
    trainer.train()
    assert logged(trainer, "loss")[0] == pytest.approx(math.log(2), abs=1e-6)


def test_incomplete_reference_columns_are_refused(make_trainer, with_reference):
    with pytest.raises(DataError, match="ref_source_chosen_logps"):
        make_trainer(train_dataset=with_reference.remove_columns("ref_source_chosen_logps"))


def test_reference_model_beside_reference_columns_is_refused(make_trainer, with_reference):
    with pytest.raises(RecipeError, match="ref_model"):
        make_trainer(train_dataset=with_reference, ref_model=policy(seed=1))


def test_evaluation_set_must_bring_the_reference_too(make_trainer, with_reference, triples):
    with pytest.raises(DataError, match="eval"):
        make_trainer(train_dataset=with_reference, eval_dataset=triples)
    trainer = make_trainer(train_dataset=with_reference, eval_dataset=with_reference)
    assert "eval_rewards/margins" in trainer.evaluate()


def test_new_evaluation_set_with_columns_works_after_training(make_trainer, with_reference):
    trainer = make_trainer(train_dataset=with_reference, max_steps=1)
    trainer.train()
    assert "eval_rewards/margins" in trainer.evaluate(with_reference.select(range(3)))

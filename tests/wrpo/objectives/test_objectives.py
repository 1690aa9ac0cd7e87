"""Objectives in the trainer: what each reads, schedules, logs, and that it moves the policy."""

import math

import pytest
import torch
from datasets import Dataset

from tests.wrpo.conftest import make_triples
from tests.wrpo.training.small_training import (
    logged,
    loss_and_gradients,
    policy,
    relative_distance,
    whole_batch,
)
from wrpo.errors import DataError, RecipeError
from wrpo.objectives.base import END, Progress
from wrpo.objectives.cgpo import CGPO
from wrpo.objectives.dpo import DPO
from wrpo.objectives.pair_loss import PairLoss
from wrpo.objectives.wrpo import WRPO
from wrpo.recipe import OBJECTIVES
from wrpo.rows.columns import TRIPLE_RESPONSES


def with_anchors():
    rows = make_triples()
    following = [*rows[1:], rows[0]]
    return Dataset.from_list(
        [{**row, "anchor": other["chosen"]} for row, other in zip(rows, following, strict=True)]
    )


def plain_logps(model, trainer, names):
    """Summed log-probabilities and lengths (n, r), one response at a time and without packing."""
    sums, lengths = [], []
    for row in trainer.train_dataset:
        for name in names:
            ids = torch.tensor([row["prompt_ids"] + row[f"{name}_ids"]])
            logp = model(ids).logits[0, :-1].log_softmax(-1)
            picked = logp.gather(1, ids[0, 1:, None])[len(row["prompt_ids"]) - 1 :]
            sums.append(picked.sum())
            lengths.append(len(row[f"{name}_ids"]))
    shape = (len(trainer.train_dataset), len(names))
    return torch.stack(sums).view(shape), torch.tensor(lengths).view(shape)


def assert_gradient(trainer, expected_loss, model) -> None:
    """The trainer's loss and gradients are those of `expected_loss`, a function of `model`."""
    loss, gradients = loss_and_gradients(trainer)
    expected_loss.backward()
    assert loss == pytest.approx(expected_loss.item(), rel=1e-5)
    for name, parameter in model.named_parameters():
        assert relative_distance(gradients[name], parameter.grad) < 2e-5, name


def test_simpo_has_no_reference_and_equals_its_formula(make_trainer):
    trainer = make_trainer(
        objective="dpo", loss_type="sigmoid_norm", reference_free=True, margin=0.4, beta=2.0
    )
    assert trainer.ref_model is None
    model = policy()
    logps, lengths = plain_logps(model, trainer, ("chosen", "rejected"))
    means = logps / lengths
    scaled = 2.0 * (means[:, 0] - means[:, 1]) - 0.4
    assert_gradient(trainer, -torch.nn.functional.logsigmoid(scaled).mean(), model)


def test_wrpo_with_the_length_normalised_loss_equals_its_formula(make_trainer):
    trainer = make_trainer(
        ref_model=policy(seed=1),
        loss_type="sigmoid_norm",
        alpha=0.3,
        alpha_schedule="constant",
        beta=5.0,
    )
    model = policy()
    logps, lengths = plain_logps(model, trainer, TRIPLE_RESPONSES)
    with torch.no_grad():
        reference, _ = plain_logps(policy(seed=1), trainer, TRIPLE_RESPONSES)
    source, target, rejected = ((logps - reference) / lengths).unbind(dim=1)
    scaled = 5.0 * (0.3 * source + 0.7 * target - rejected)
    assert_gradient(trainer, -torch.nn.functional.logsigmoid(scaled).mean(), model)


def test_cgpo_equals_its_formula_with_another_prompts_answer_as_anchor(make_trainer):
    trainer = make_trainer(
        ref_model=policy(seed=1),
        train_dataset=with_anchors(),
        objective="cgpo",
        beta=0.5,
        undesirable_warmup_steps=0,
    )
    model, names = policy(), (*TRIPLE_RESPONSES, "anchor")
    logps, lengths = plain_logps(model, trainer, names)
    with torch.no_grad():
        reference, _ = plain_logps(policy(seed=1), trainer, names)
    rewards = (logps - reference) / lengths
    zero = rewards[:, 3].detach().mean()
    desirable = 1 - torch.sigmoid(0.5 * (rewards[:, :2] - zero))
    undesirable = 1 - torch.sigmoid(0.5 * (zero - rewards[:, 2]))
    assert_gradient(trainer, 1.2 * desirable.mean() + undesirable.mean(), model)


def test_the_undesirable_side_of_cgpo_warms_up_and_is_logged(make_trainer):
    trainer = make_trainer(
        train_dataset=with_anchors(),
        objective="cgpo",
        undesirable_weight=0.5,
        undesirable_warmup_start=1,
        undesirable_warmup_steps=2,
        max_steps=5,
    )
    trainer.train()
    assert logged(trainer, "undesirable_weight") == pytest.approx([0.0, 0.0, 0.25, 0.5, 0.5])
    assert "rewards/anchor" in trainer.state.log_history[0]


def test_cgpo_without_anchors_says_which_column_is_missing(make_trainer):
    with pytest.raises(DataError, match="anchor"):
        make_trainer(objective="cgpo")


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"loss_type": "hinge"},
        {"loss_type": "ipo", "beta": 0.5},
        {"loss_type": "sigmoid_norm", "label_smoothing": 0.1},
        {"reference_free": True, "loss_type": "sigmoid_norm", "margin": 0.5},
        {"objective": "dpo", "loss_type": "ipo"},
        {"objective": "cgpo", "train_dataset": "anchors"},
        {"objective": "cgpo", "train_dataset": "anchors", "precompute_ref_log_probs": True},
        {"alpha_schedule": "cosine", "alpha_start": 0.5, "alpha": 0.1},
    ],
    ids=str,
)
def test_every_objective_trains_and_takes_the_likelihood_term(make_trainer, options):
    if options.get("train_dataset") == "anchors":
        options = {**options, "train_dataset": with_anchors()}
    trainer = make_trainer(**options, likelihood_weight=0.5, max_steps=6, learning_rate=1e-2)
    trainer.train()
    losses = logged(trainer, "loss")
    assert losses[-1] < losses[0]
    terms = zip(logged(trainer, "preference_loss"), logged(trainer, "likelihood_loss"), strict=True)
    assert losses == pytest.approx([left + 0.5 * right for left, right in terms], rel=1e-5)


def test_supplied_reference_columns_decide_the_reward(make_trainer):
    names = (*TRIPLE_RESPONSES, "anchor")
    columns = {f"ref_{name}_logps": -3.0 for name in names}
    rows = Dataset.from_list([{**row, **columns} for row in with_anchors()])
    trainer = make_trainer(train_dataset=rows, objective="cgpo", beta=1.0)
    trainer.model.train()
    trainer.compute_loss(trainer.model, whole_batch(trainer))
    means = trainer._sums["train"].pop_means()
    logps, lengths = plain_logps(policy(), trainer, names)
    expected = ((logps + 3.0) / lengths).mean(dim=0)
    assert means["rewards/rejected"] == pytest.approx(expected[2].item(), rel=1e-4)
    assert means["rewards/anchor"] == pytest.approx(expected[3].item(), rel=1e-4)


def test_a_reference_beside_a_reference_free_objective_is_refused(make_trainer):
    for options in ({"ref_model": policy(seed=1)}, {"precompute_ref_log_probs": True}):
        with pytest.raises(RecipeError, match="reference_free"):
            make_trainer(reference_free=True, **options)


def test_schedules_have_arrived_in_evaluation():
    form = PairLoss(beta=0.1)
    assert WRPO(form, alpha=0.4, alpha_schedule="cosine").weights(END) == {"alpha": 0.4}
    assert WRPO(form, alpha=0.4).weights(Progress(0, 0)) == {"alpha": 0.0}
    assert DPO(form).weights(END) == {}
    cgpo = CGPO(0.1, 1.2, 0.8, warmup_start=3, warmup_steps=4)
    assert cgpo.weights(END) == {"undesirable_weight": 0.8}
    assert cgpo.weights(Progress(5, 100)) == {"undesirable_weight": 0.4}


@pytest.mark.slow
def test_a_policy_equal_to_its_reference_starts_at_known_losses(make_trainer):
    first = {}
    for loss in ("sigmoid", "sigmoid_norm", "hinge", "ipo"):
        trainer = make_trainer(loss_type=loss, max_steps=1, beta=0.5)
        trainer.train()
        first[loss] = trainer.state.log_history[0]["loss"]
    ln_2 = math.log(2)
    assert first == pytest.approx(
        {"sigmoid": ln_2, "sigmoid_norm": ln_2, "hinge": 1.0, "ipo": 1.0}, abs=1e-6
    )


def test_every_objective_names_what_trains_it():
    from wrpo.training.arm import trainer_of

    for name, kind in OBJECTIVES.items():
        assert callable(trainer_of(kind.model_construct())), name

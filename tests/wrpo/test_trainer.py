"""The objective, the models it trains and what it logs."""

import copy
import math

import pytest
import torch
from datasets import Dataset
from torch import Tensor
from torch.nn.functional import log_softmax

from tests.support.tiny_models import save_tiny, tiny_model
from tests.wrpo.conftest import make_triples
from tests.wrpo.training.small_training import (
    GRADIENT_ROUNDING,
    ROUNDING,
    assert_same,
    logged,
    loss_and_gradients,
    parameters_after,
    policy,
    relative_distance,
)
from wrpo.trainer import WRPOTrainer


@pytest.mark.parametrize(
    ("options", "preferred"),
    [
        ({"alpha": 0.0, "alpha_schedule": "constant"}, "chosen"),
        ({"alpha": 1.0, "alpha_schedule": "constant"}, "source_chosen"),
        ({"objective": "dpo"}, "chosen"),
        ({"objective": "dpo", "loss_type": "sigmoid_norm"}, "chosen"),
        ({"objective": "dpo", "loss_type": "hinge"}, "chosen"),
        ({"alpha": 1.0, "alpha_schedule": "constant", "loss_type": "ipo"}, "source_chosen"),
    ],
)
def test_extremes_equal_trl_dpo_in_loss_and_gradients(
    make_trainer, trl_pair_trainer, options, preferred
):
    ours = make_trainer(model=policy(), ref_model=policy(seed=1), **options)
    loss_type = options.get("loss_type", "sigmoid")
    theirs = trl_pair_trainer(
        preferred, model=policy(), ref_model=policy(seed=1), loss_type=loss_type
    )
    for column in ("prompt_ids", "rejected_ids"):
        assert ours.train_dataset[column][:] == theirs.train_dataset[column][:]
    assert_same(loss_and_gradients(ours), loss_and_gradients(theirs))


def test_mixture_of_experts_adds_the_same_balancing_loss_as_trl(make_trainer, trl_pair_trainer):
    # The grouped matrix product of the experts has no float64 kernel.
    models = [tiny_model("mixtral", seed=seed) for seed in (0, 1)]
    ours = make_trainer(
        model=copy.deepcopy(models[0]), ref_model=copy.deepcopy(models[1]), objective="dpo"
    )
    theirs = trl_pair_trainer("chosen", model=models[0], ref_model=models[1])
    assert ours.aux_loss_enabled
    assert_same(loss_and_gradients(ours), loss_and_gradients(theirs))


def test_gradient_is_the_weighted_sum_of_the_three_log_likelihood_gradients(make_trainer):
    alpha, beta = 0.3, 0.3
    trainer = make_trainer(
        train_dataset=Dataset.from_list(make_triples(1)),
        ref_model=policy(seed=1),
        alpha=alpha,
        alpha_schedule="constant",
        beta=beta,
    )
    _, gradients = loss_and_gradients(trainer)
    row = trainer.train_dataset[0]

    def summed(model, name: str) -> Tensor:
        ids = torch.tensor([row["prompt_ids"] + row[f"{name}_ids"]])
        logp = log_softmax(model(ids).logits[0, :-1], dim=-1)
        return logp[torch.arange(ids.shape[1] - 1), ids[0, 1:]][len(row["prompt_ids"]) - 1 :].sum()

    model, reference = policy(), policy(seed=1)
    names = ("source_chosen", "chosen", "rejected")
    logps = [summed(model, name) for name in names]
    h = [logp.item() - summed(reference, n).item() for logp, n in zip(logps, names, strict=True)]
    delta = beta * (alpha * h[0] + (1 - alpha) * h[1] - h[2])
    weights = (alpha, 1 - alpha, -1.0)
    combined = sum(w * logp for w, logp in zip(weights, logps, strict=True))
    (-beta / (1 + math.exp(delta)) * combined).backward()
    for name, parameter in model.named_parameters():
        assert relative_distance(gradients[name], parameter.grad) < GRADIENT_ROUNDING, name


def test_alpha_does_not_matter_when_source_and_target_agree(make_trainer, triples):
    alike = triples.map(lambda row: {"source_chosen": row["chosen"]})
    losses = [
        loss_and_gradients(
            make_trainer(
                train_dataset=alike,
                ref_model=policy(seed=1),
                alpha=alpha,
                alpha_schedule="constant",
            )
        )
        for alpha in (0.0, 0.37, 1.0)
    ]
    assert_same(losses[0], losses[1])
    assert_same(losses[0], losses[2])


@pytest.mark.parametrize("options", [{}, {"objective": "dpo"}, {"alpha_schedule": "constant"}])
def test_first_loss_is_ln_2(make_trainer, options):
    trainer = make_trainer(max_steps=1, **options)
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(math.log(2), abs=1e-7)


def test_reference_is_the_policy_as_handed_over_not_as_saved(make_trainer, tmp_path):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(save_tiny(tmp_path / "m"), dtype=torch.float64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    loss, _ = loss_and_gradients(make_trainer(model=model))
    assert loss == pytest.approx(math.log(2), rel=ROUNDING)


def test_label_smoothing_reaches_the_loss(make_trainer):
    plain, smoothed, flipped = (
        loss_and_gradients(
            make_trainer(
                ref_model=policy(seed=1), alpha_schedule="constant", label_smoothing=smoothing
            )
        )[0]
        for smoothing in (0.0, 0.2, 0.4)
    )
    assert smoothed - plain == pytest.approx(flipped - smoothed, rel=1e-4)
    assert abs(smoothed - plain) > 1e-3


@pytest.mark.parametrize("on", ["source_chosen", "chosen", "better", "both"])
def test_likelihood_term_is_added_with_its_weight(make_trainer, on):
    common = {"ref_model": policy(seed=1), "alpha_schedule": "constant", "likelihood_on": on}
    plain, _ = loss_and_gradients(make_trainer(**common))
    trainer = make_trainer(**{**common, "ref_model": policy(seed=1)}, likelihood_weight=0.5)
    loss, _ = loss_and_gradients(trainer)
    means = trainer._sums["train"].pop_means()
    assert loss == pytest.approx(plain + 0.5 * means["likelihood_loss"], rel=1e-6)
    assert means["preference_loss"] == pytest.approx(plain, rel=1e-6)


def test_pairs_with_a_likelihood_term_on_the_source_forward_the_source(make_trainer):
    trainer = make_trainer(
        objective="dpo", likelihood_weight=0.1, ref_model=policy(seed=1), max_steps=1
    )
    trainer.train()
    logs = trainer.state.log_history[0]
    assert logs["lengths/source_chosen"] > 0
    assert "rewards/source_chosen" not in logs


def test_adapter_run_uses_the_base_model_as_reference(make_trainer):
    from peft import LoraConfig

    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    trainer = make_trainer(peft_config=lora, num_train_epochs=2, learning_rate=1e-2)
    frozen = {n: p.clone() for n, p in trainer.model.named_parameters() if "lora" not in n}
    trainer.train()
    assert trainer.ref_model is None
    losses = logged(trainer, "loss")
    assert losses[0] == pytest.approx(math.log(2), abs=1e-7)
    assert losses[-1] < losses[0] - 1e-3
    assert all(
        torch.equal(p, frozen[n]) for n, p in trainer.model.named_parameters() if n in frozen
    )


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing_changes_nothing(make_trainer, use_reentrant):
    options = {"ref_model": policy(seed=1), "num_train_epochs": 1, "learning_rate": 1e-2}
    plain = parameters_after(make_trainer(**options))
    checkpointed = parameters_after(
        make_trainer(
            **{**options, "ref_model": policy(seed=1)},
            gradient_checkpointing=True,
            gradient_checkpointing_kwargs={"use_reentrant": use_reentrant},
        )
    )
    for left, right in zip(plain, checkpointed, strict=True):
        assert torch.equal(left, right)


def test_bf16_autocast_starts_at_ln_2_and_learns(make_trainer):
    trainer = make_trainer(
        model=tiny_model(), bf16=True, gradient_checkpointing=True, num_train_epochs=4
    )
    trainer.train()
    losses = logged(trainer, "loss")
    assert losses[0] == pytest.approx(math.log(2), abs=1e-6)
    assert losses[-1] < losses[0] - 0.05


@pytest.mark.parametrize("architecture", ["mistral", "qwen2", "qwen3", "gemma2", "phi3"])
def test_other_architectures_train(make_trainer, architecture):
    trainer = make_trainer(model=tiny_model(architecture), max_steps=3)
    trainer.train()
    losses = logged(trainer, "loss")
    assert losses[0] == pytest.approx(math.log(2), abs=1e-5)
    assert losses[-1] < losses[0]


def test_streamed_rows_train_like_stored_ones(make_trainer, triples):
    common = {"max_steps": 2, "train_sampling_strategy": "sequential"}
    stored = make_trainer(**common)
    streamed = make_trainer(train_dataset=triples.to_iterable_dataset(), max_steps=2)
    stored.train()
    streamed.train()
    assert logged(streamed, "loss") == pytest.approx(logged(stored, "loss"), rel=ROUNDING)


def test_saved_model_is_the_trained_model(make_trainer, tmp_path):
    from transformers import AutoModelForCausalLM

    trainer = make_trainer(max_steps=2)
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "saved", dtype=torch.float64)
    ids = torch.tensor([[1, 20, 30, 40]])
    assert torch.equal(saved(ids).logits, trainer.model(ids).logits)


def test_model_given_by_path_is_trained_with_its_own_tokenizer(make_config, triples, tmp_path):
    trainer = WRPOTrainer(
        model=str(save_tiny(tmp_path / "m")), args=make_config(max_steps=1), train_dataset=triples
    )
    trainer.train()
    assert logged(trainer, "loss")[0] == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize(("truncation", "cut"), [("separate", (8, 0)), ("original", (7, 7))])
def test_truncation_mode_decides_whether_one_long_answer_cuts_the_others(
    make_trainer, make_config, tokenizer, truncation, cut
) -> None:
    rows = make_triples(8)
    for row in rows:
        row["source_chosen"] = [{"role": "assistant", "content": "long " * 40}]
    trainer = make_trainer(
        train_dataset=Dataset.from_list(rows),
        truncation=truncation,
        max_length=82,
        max_prompt_length=80,
    )
    counts = trainer.cut_counts["train"].cut
    assert (counts["source_chosen"], counts["rejected"]) == cut
    lengths = [len(ids) for ids in trainer.train_dataset["rejected_ids"]]
    assert (max(lengths) == 2) == (truncation == "original")
    trainer.train()

"""alpha over time, accumulation, resuming."""

import pytest
import torch
from datasets import Dataset

from tests.wrpo.conftest import make_triples
from tests.wrpo.training.small_training import logged, parameters_after, policy
from wrpo.trainer import WRPOTrainer


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"num_train_epochs": 3, "per_device_train_batch_size": 4},
        {"max_steps": 6, "per_device_train_batch_size": 4},
        {
            "num_train_epochs": 3,
            "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 2,
        },
    ],
    ids=["epochs", "max_steps", "accumulation"],
)
def test_alpha_rises_linearly_over_the_optimizer_steps(make_trainer, options):
    trainer = make_trainer(alpha=0.6, **options)
    trainer.train()
    assert logged(trainer, "alpha") == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])


def test_alpha_counts_the_short_window_at_the_end_of_an_epoch(make_trainer):
    rows = Dataset.from_list(make_triples(7))
    trainer = make_trainer(
        train_dataset=rows,
        alpha=0.4,
        num_train_epochs=1,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=2,
    )
    trainer.train()
    assert logged(trainer, "alpha") == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_alpha_is_constant_within_an_accumulation_window(make_trainer, monkeypatch):
    seen = []
    plain = WRPOTrainer._losses
    monkeypatch.setattr(
        WRPOTrainer, "_losses", lambda self, *a: seen.append(self.alpha) or plain(self, *a)
    )
    trainer = make_trainer(
        alpha=0.4, max_steps=2, per_device_train_batch_size=2, gradient_accumulation_steps=2
    )
    trainer.train()
    assert seen == [0.0, 0.0, 0.2, 0.2]


def test_evaluation_uses_the_final_alpha_at_any_time(make_trainer, triples):
    trainer = make_trainer(
        alpha=0.4, ref_model=policy(seed=1), eval_dataset=triples, max_steps=1, learning_rate=0.0
    )
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    assert before["eval_alpha"] == after["eval_alpha"] == 0.4
    assert before["eval_loss"] == pytest.approx(after["eval_loss"], rel=1e-6)


def test_resumed_run_equals_the_uninterrupted_one(make_trainer, tmp_path):
    options = {
        "alpha": 0.6,
        "num_train_epochs": 3,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "save_strategy": "steps",
        "save_steps": 3,
        "output_dir": str(tmp_path / "run"),
    }
    whole = make_trainer(**options)
    whole.train()
    resumed = make_trainer(**options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-3"))
    for key in ("loss", "alpha", "rewards/margins", "logps/source_chosen", "num_tokens"):
        assert logged(resumed, key) == logged(whole, key)
    for left, right in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(left, right)


def test_accumulated_micro_batches_of_unequal_size_equal_one_large_batch(make_trainer):
    rows = Dataset.from_list(make_triples(6))
    common = {
        "train_dataset": rows,
        "optim": "sgd",
        "learning_rate": 0.1,
        "num_train_epochs": 1,
        "max_grad_norm": 0.0,
        "alpha_schedule": "constant",
        "likelihood_weight": 0.3,
    }
    large = make_trainer(**common, ref_model=policy(seed=1), per_device_train_batch_size=6)
    small = make_trainer(
        **common,
        ref_model=policy(seed=1),
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
    )
    for left, right in zip(parameters_after(large), parameters_after(small), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-6, atol=1e-7)
    for key in ("loss", "rewards/margins", "logps/rejected", "lengths/chosen", "entropy"):
        assert logged(small, key) == pytest.approx(logged(large, key), rel=1e-5)


def test_shuffled_steps_follow_trl_with_alpha_zero(make_trainer, trl_pair_trainer):
    ours = make_trainer(alpha=0.0, ref_model=policy(), num_train_epochs=2)
    theirs = trl_pair_trainer("chosen", model=policy(), ref_model=policy())
    theirs.args.num_train_epochs = 2
    ours.train()
    theirs.train()
    for key in ("loss", "rewards/chosen", "rewards/margins", "rewards/accuracies", "logps/chosen"):
        assert logged(ours, key) == pytest.approx(logged(theirs, key), rel=1e-4, abs=1e-5), key

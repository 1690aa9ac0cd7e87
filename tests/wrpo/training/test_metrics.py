import pytest
import torch
from datasets import Dataset

from tests.wrpo.conftest import make_triples
from tests.wrpo.training.small_training import logged, policy, whole_batch
from wrpo.objectives.base import END
from wrpo.objectives.pair_loss import PairLoss
from wrpo.objectives.wrpo import WRPO
from wrpo.rows.columns import TRIPLE_RESPONSES


def test_accuracies_compare_each_prompt_with_itself():
    rewards = torch.tensor([[0.0, 3.0, 1.0], [5.0, 0.0, 2.0], [0.0, 4.0, 3.0]])
    objective = WRPO(PairLoss(beta=2.0), alpha=0.5)
    _, metrics = objective(dict(zip(TRIPLE_RESPONSES, rewards.unbind(dim=1), strict=True)), END)
    assert metrics["rewards/target_accuracies"].tolist() == [1.0, 0.0, 1.0]
    assert metrics["rewards/source_accuracies"].tolist() == [0.0, 1.0, 0.0]
    assert metrics["rewards/weighted"].tolist() == [3.0, 5.0, 4.0]
    assert metrics["rewards/accuracies"].tolist() == [1.0, 1.0, 0.0]
    assert metrics["rewards/margins"].tolist() == [1.0, 1.0, -2.0]


def test_logged_metrics_belong_to_the_batch(make_trainer):
    trainer = make_trainer(ref_model=policy(seed=1), alpha=0.4, alpha_schedule="constant")
    trainer.model.train()
    batch = whole_batch(trainer)
    trainer.compute_loss(trainer.model, batch)
    means = trainer._sums["train"].pop_means()
    with torch.no_grad():
        reference = trainer._reference_pass(trainer.ref_model, batch)
        logps = trainer._reference_pass(trainer.model, batch)
    source, target, rejected = (0.3 * (logps - reference)).unbind(dim=1)
    weighted = 0.4 * source + 0.6 * target
    expected = {
        "rewards/source_chosen": source,
        "rewards/chosen": target,
        "rewards/rejected": rejected,
        "rewards/weighted": weighted,
        "rewards/margins": weighted - rejected,
        "rewards/accuracies": (weighted > rejected).double(),
        "rewards/source_accuracies": (source > rejected).double(),
        "rewards/target_accuracies": (target > rejected).double(),
        "logps/source_chosen": logps[:, 0],
        "logps/chosen": logps[:, 1],
        "logps/rejected": logps[:, 2],
    }
    for name, values in expected.items():
        assert means[name] == pytest.approx(values.mean().item(), rel=1e-5, abs=1e-6), name


def test_evaluation_averages_over_prompts_not_batches(make_trainer):
    rows = Dataset.from_list(make_triples(6))
    results = [
        make_trainer(
            ref_model=policy(seed=1), eval_dataset=rows, per_device_eval_batch_size=size
        ).evaluate()
        for size in (4, 6)
    ]
    keys = [key for key in results[0] if key.startswith(("eval_rewards", "eval_l", "eval_ent"))]
    assert len(keys) > 12
    for key in keys:
        assert results[0][key] == pytest.approx(results[1][key], rel=1e-5), key


def test_each_evaluation_set_reports_under_its_own_name(make_trainer, triples):
    sets = {"a": triples.select([0, 1]), "b": triples.select([2, 3])}
    metrics = make_trainer(eval_dataset=sets).evaluate()
    assert metrics["eval_a_lengths/chosen"] != metrics["eval_b_lengths/chosen"]


def test_tokens_are_counted_without_padding(make_trainer, triples):
    trainer = make_trainer(num_train_epochs=1)
    trainer.train()
    rows = trainer.train_dataset
    prompts = sum(3 * len(ids) for ids in rows["prompt_ids"])
    responses = sum(
        len(row[f"{n}_ids"]) for row in rows for n in ("source_chosen", "chosen", "rejected")
    )
    assert logged(trainer, "num_tokens")[-1] == prompts + responses

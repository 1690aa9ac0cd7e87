"""FuseRL as we read it: weights of sources, and the loss of weighted rows."""

import math

import pytest
import torch
from datasets import Dataset

from tests.wrpo.conftest import make_triples
from tests.wrpo.training.small_training import loss_and_gradients, relative_distance
from wrpo.errors import DataError
from wrpo.objectives.dpo import DPO
from wrpo.objectives.fuserl import FuseRLSettings, weights_of_rows


def row(prompt: str, score: float, source: str = "a") -> dict[str, object]:
    return {
        "triple_id": f"{prompt}-{source}",
        "prompt_id": prompt,
        "chosen_score": score,
        "chosen_source": source,
    }


def test_weights_are_the_softmax_of_each_sources_best_reward() -> None:
    rows = [row("p", 1.0), row("q", 7.0), row("p", 3.0, "b"), row("q", 7.0, "b")]
    found = weights_of_rows(rows, temperature=2.0)
    first = math.exp(0.5) / (math.exp(0.5) + math.exp(1.5))
    assert found == pytest.approx([2 * first, 1.0, 2 * (1 - first), 1.0])
    assert sum(found) / len(found) == pytest.approx(1.0)
    order = [3, 1, 0, 2]
    permuted = weights_of_rows([rows[place] for place in order], temperature=2.0)
    assert permuted == pytest.approx([found[place] for place in order])


def test_a_prompt_weighs_as_any_other_whatever_the_number_of_its_sources() -> None:
    rows = [row("p", 1.0), *(row("q", float(n), str(n)) for n in range(3))]
    found = weights_of_rows(rows, temperature=1.0)
    assert found[0] == pytest.approx(sum(found[1:])) == pytest.approx(2.0)
    assert weights_of_rows([row("p", -9e9), row("q", 9e9)], temperature=1e-3) == [1.0, 1.0]


def test_rows_without_scores_are_refused_and_rows_of_some_sources_are_weighed_alone() -> None:
    settings = FuseRLSettings(rows_of=["a"])
    kept = settings.rows_to_train([row("p", 1.0), row("p", 2.0, "b"), row("q", 0.0)])
    assert [one["row_weight"] for one in kept] == [1.0, 1.0]
    with pytest.raises(DataError, match="p-a has no score"):
        weights_of_rows([{**row("p", 1.0), "chosen_score": None}], temperature=1.0)


def test_it_is_dpo_on_pairs_within_sources() -> None:
    settings = FuseRLSettings(beta=0.3)
    assert settings.build() == DPO(settings.form)
    assert settings.responses == ("chosen", "rejected") and settings.data == "source_pairs"


def test_the_loss_of_a_row_is_multiplied_by_its_weight(make_trainer) -> None:
    """Weights 0 and the number of rows: the loss and gradient are those of one row."""
    rows = make_triples()
    weighted = [
        {**one, "row_weight": float(len(rows)) if place == 1 else 0.0}
        for place, one in enumerate(rows)
    ]
    options = {"objective": "dpo", "beta": 0.5}
    found = loss_and_gradients(make_trainer(train_dataset=Dataset.from_list(weighted), **options))
    expected = loss_and_gradients(
        make_trainer(train_dataset=Dataset.from_list(rows[1:2]), **options)
    )
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    for name, gradient in found[1].items():
        assert relative_distance(gradient, expected[1][name]) < 2e-5, name
    plain = loss_and_gradients(make_trainer(train_dataset=Dataset.from_list(rows), **options))
    assert torch.linalg.norm(plain[1]["lm_head.weight"] - found[1]["lm_head.weight"]) > 1e-6

"""The account of a run: each number from the stages it is of, and the note on other budgets."""

from pathlib import Path

import pytest

from eval.reporting.account import Accounts, ModelCost, _close
from eval.reporting.evidence import read_run
from eval.reporting.page import PageTable, Paragraph
from eval.reporting.sections.account import account, budget_note, same_budgets
from wrpo.pipeline.folder import read_manifest
from wrpo.pipeline.tables import RESPONSES, read_rows
from wrpo.recipe import load_recipe


def test_budgets_within_a_tenth_are_the_same() -> None:
    assert _close(0, 0) and _close(100, 109)
    assert not _close(100, 111) and not _close(0, 1)
    assert set(ModelCost(steps=3).budget.values()) == {0, 3}


@pytest.mark.slow
def test_every_model_of_the_small_run_has_its_account(finished_run: Path) -> None:
    evidence = read_run(load_recipe(finished_run))
    accounts = Accounts(evidence)
    pipeline = evidence.pipeline

    def tokens(stage: str) -> int:
        return sum(row["token_count"] for row in read_rows(pipeline.finished(stage), RESPONSES))

    def fact(stage: str, name: str) -> int:
        manifest = read_manifest(pipeline.finished(stage))
        assert manifest is not None
        return int(manifest[name])

    sft, wrpo, pairs = (accounts.costs[name] for name in ("sft", "wrpo", "pairs-dpo"))
    sources = tokens("sample/one") + tokens("sample/two")
    assert sft.source_tokens == wrpo.source_tokens == pairs.source_tokens == sources
    assert (sft.sampled_tokens, pairs.sampled_tokens) == (0, 0)
    assert wrpo.sampled_tokens == tokens("sample/target")
    assert wrpo.steps == sft.steps + 2 == 4
    assert wrpo.trained_tokens == fact("sft", "trained_tokens") + fact("wrpo", "trained_tokens")
    assert 0 < sft.trained_tokens < wrpo.trained_tokens
    assert wrpo.peak_memory_mib is not None and wrpo.peak_memory_mib > 0
    assert accounts.costs["infifpo"].teacher_tokens > 0 == wrpo.teacher_tokens
    others = accounts.other_budgets("wrpo")
    assert "tokens of the target" in others["pairs-dpo"]
    assert "teacher tokens" in others["infifpo"]
    (note,) = budget_note([accounts])
    assert isinstance(note, Paragraph) and "pairs-dpo" in note.text
    assert budget_note([accounts, accounts]) == [note]
    groups = accounts.budgets
    assert sorted(name for group in groups for name in group) == sorted(accounts.costs)
    assert next(group for group in groups if "wrpo" in group) != next(
        group for group in groups if "pairs-dpo" in group
    )
    (below,) = same_budgets(accounts)
    assert isinstance(below, Paragraph) and "pairs-dpo" in below.text
    table = account(accounts)[1]
    assert isinstance(table, PageTable) and len(table.rows) == len(accounts.costs)


class Costs(Accounts):
    """Accounts of models with these costs."""

    def __init__(self, costs: dict[str, ModelCost]) -> None:
        super().__init__(evidence=None)  # type: ignore[arg-type]
        self.__dict__["costs"] = costs


def test_models_are_grouped_by_budget() -> None:
    """Trained on 100, 105 and 300 tokens, and 100 with a teacher."""
    accounts = Costs(
        {
            "sft": ModelCost(trained_tokens=100),
            "wrpo": ModelCost(trained_tokens=300),
            "dpo": ModelCost(trained_tokens=310),
            "gkd": ModelCost(trained_tokens=300, teacher_tokens=300),
            "grpo": ModelCost(trained_tokens=300, reward_tokens=300),
            "more": ModelCost(trained_tokens=105),
        }
    )
    assert accounts.budgets == [["sft", "more"], ["wrpo", "dpo"], ["gkd"], ["grpo"]]
    assert accounts.other_budgets("wrpo") == {
        "gkd": ["teacher tokens"],
        "grpo": ["reward tokens"],
        "more": ["trained tokens"],
    }

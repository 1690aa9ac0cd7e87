"""Families of reasoning-gym as tasks of lm-eval: made from their seed, scored by the package."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from eval.tasks.reasoning_gym import reasoning
from tests.eval.tasks.local import local_task, prompts, scores
from wrpo.errors import ModelError
from wrpo.recipe.suite import OWN_TASKS, own_tasks

FOLDER = OWN_TASKS / "reasoning_gym"
FAMILIES = [path.stem for path in sorted(FOLDER.glob("reasoning_gym_*.yaml"))]


def settings(name: str) -> dict[str, object]:
    metadata = yaml.safe_load((FOLDER / f"{name}.yaml").read_text("utf-8"))["metadata"]
    assert isinstance(metadata, dict)
    return metadata


def test_the_group_holds_every_family() -> None:
    group = yaml.safe_load((FOLDER / "reasoning_gym.yaml").read_text("utf-8"))
    assert group["task"] == FAMILIES
    assert own_tasks(["reasoning_gym", *FAMILIES]) == ["reasoning_gym", *FAMILIES]


def test_a_document_becomes_a_chat_and_its_answer_a_score(tmp_path: Path) -> None:
    pytest.importorskip("reasoning_gym")
    rows = [dict(row) for row in reasoning.load(family="chain_sum", size=2, seed=5)["test"]]
    task = local_task(tmp_path, "reasoning_gym_chain_sum", rows)
    turns, generation_prompt = prompts(task)[0]
    asked = f"{rows[0]['question']}\nAnswer between <answer> and </answer>."
    assert turns == [{"role": "user", "content": asked}] and generation_prompt
    right, other = (row["answer"] for row in rows)
    answers = [[f"So <answer>{right}</answer>"], [f"<answer>It is {other}</answer>"]]
    found = scores(task, answers)["none"]
    assert found[0] == {"acc": 1.0, "score": 1.0}
    assert found[1] == {"acc": 0.0, "score": len(other) / len(f"It is {other}")}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_right_answers_of_a_family_score_one(name: str) -> None:
    pytest.importorskip("reasoning_gym")
    made = reasoning.load(**{**settings(name), "size": 2})["test"]
    assert [row["family"] for row in made] == 2 * [name.removeprefix("reasoning_gym_")]
    for row in made:
        right = f"<answer>{row['answer']}</answer>"
        assert reasoning.score(row, [right]) == {"acc": 1.0, "score": 1.0}
        assert reasoning.score(row, [""]) == {"acc": 0.0, "score": 0.0}


def test_the_seed_decides_the_tasks() -> None:
    pytest.importorskip("reasoning_gym")
    one, same, other = (
        reasoning.load(family="gcd", size=3, seed=seed)["test"]["question"] for seed in (1, 1, 2)
    )
    assert list(one) == list(same) != list(other)


def test_the_missing_package_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reasoning, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r'pip install "wrpo\[real\]"'):
        reasoning.load(family="gcd", size=1, seed=1)

"""SocialBench: both parsers on known replies, guessing, both orders, and lm-eval's own mean."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from eval.tasks.social import social
from wrpo.errors import DataError, MissingInputError
from wrpo.recipe.suite import OWN_TASKS


def record(category: str = "Individual-SA-RoleStyle", **changed: Any) -> dict[str, Any]:
    return {
        "dialogue": [{"from": "user", "value": "Hello?"}],
        "instruction": "How would Ada reply?",
        "choices": {"A": "Hm.", "B": "Good day!", "C": "Go away.", "D": "Yo."},
        "label": ["B"],
        "meta": {"lang": "en", "profile": {"Ada": "line\n" * 20}, "category": category},
        **changed,
    }


@pytest.mark.parametrize(
    ("answer", "strict", "upstream"),
    [
        ("B", 1, 1),
        ("(B)", 1, 1),
        ("B. Good day!", 1, 1),
        ("The answer is B.", 1, 1),
        ("A good reply would be B, so the answer: B", 1, 0),
        ("A good reply would be C", 0, 0),
        ("BD", 0, 1),
        ("B, D", 0, 1),
        ("I think C.\nAnswer: B", 1, 0),
        ("Good day!", 0, 0),
        ("", 0, 0),
    ],
)
def test_known_replies_in_both_parsers(answer: str, strict: float, upstream: float) -> None:
    document = social.document(record(), reverse=False)
    found = social.score(document, [answer])
    assert (found["strict"], found["guess"]) == (strict, 0.25)
    assert found["upstream"] == upstream
    assert found["unparsed"] == float(not social.explicit(answer))


def test_several_right_letters_and_keywords() -> None:
    several = social.document(record(label=["A", "C"]), reverse=False)
    assert social.score(several, ["A, C"])["strict"] == 1
    assert social.score(several, ["C"])["strict"] == 0.5
    assert social.score(several, ["A, B"])["strict"] == 0
    memory = record("Individual-MEM", choices=None, label=["Paris", "2 June"])
    found = social.score(social.document(memory, reverse=False), ["We met in paris."])
    assert found == {"strict": 0.5, "upstream": 0.5, "unparsed": 0, "guess": 0}


@pytest.mark.parametrize("label", [["B"], ["A", "C"], ["A", "B", "D"]])
def test_a_uniform_guesser_gets_the_guessing_level(label: list[str]) -> None:
    document = social.document(record(label=label), reverse=False)
    draw, n = random.Random(0), 4000
    total = 0.0
    for _ in range(n):
        if len(label) == 1:
            guess = draw.choice("ABCD")
        else:
            sets = [[x for x in "ABCD" if draw.random() < 0.5] for _ in range(9)]
            guess = ", ".join(next(filter(None, sets)))
        total += social.score(document, [guess])["strict"]
    assert total / n == pytest.approx(document_guess(document), abs=3 * 0.5 / n**0.5)


def document_guess(document: dict[str, Any]) -> float:
    return social.guess_level(document["options"], document["target"])


def test_letters_move_with_their_options_and_profiles_are_cut() -> None:
    given, reverse = (social.document(record(), reverse=r) for r in (False, True))
    assert given["target"] == ["B"] and reverse["target"] == ["C"]
    assert "C. Good day!" in reverse["question"] and "B. Good day!" in given["question"]
    assert given["question"].count("line") == 10
    with pytest.raises(DataError, match="of another form"):
        social.document(record(label=["E"]), reverse=False)


def test_the_group_is_the_mean_over_categories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.tasks import TaskManager

    monkeypatch.delenv(social.DATA, raising=False)
    with pytest.raises(MissingInputError, match="export SOCIALBENCH_DATA"):
        list(social.records())
    group = yaml.safe_load((OWN_TASKS / "social" / "socialbench.yaml").read_text())
    assert len(group["task"]) == 9
    data = [record(), record(label="C"), record("Group-SAP-Positive", label="D")]
    (tmp_path / "some.json").write_text(json.dumps(data))
    monkeypatch.setenv(social.DATA, str(tmp_path))
    manager = TaskManager(include_path=OWN_TASKS, include_defaults=False)
    name = "socialbench_individual_sa_rolestyle"
    task = manager.load([name])["tasks"][name]
    documents = list(task.test_docs())
    assert len(documents) == 4 and task.doc_to_text(documents[0]) == documents[0]["question"]
    oracle = [task.process_results(d, [d["target"][0]])["strict"] for d in documents]
    always_b = [task.process_results(d, ["B"])["strict"] for d in documents]
    assert oracle == [1, 1, 1, 1] and sum(always_b) / 4 == 0.5
    with pytest.raises(DataError, match="no record of category Individual-MEM"):
        social.load(category="Individual-MEM")

"""MMLU-Pro, MMLU-redux and GPQA with a chain of thought, on documents of the hub's columns."""

from __future__ import annotations

from pathlib import Path

import pytest

from eval.tasks.choice.letters import strict
from tests.eval.tasks.local import local_task, prompts, scores

TEN = [f"option {number}" for number in range(10)]
MMLU_PRO = [{"question": "Which one?", "options": TEN, "answer": "I", "category": "math"}]
REDUX = [
    {"question": "One?", "choices": ["a", "b", "c", "d"], "answer": 2, "error_type": "ok"},
    {"question": "Bad?", "choices": ["a", "b", "c", "d"], "answer": 0, "error_type": "no_correct"},
]
GPQA = [
    {
        "Question": f"Question {number}?",
        "Correct Answer": "right\n",
        **{f"Incorrect Answer {wrong}": f"wrong {wrong}" for wrong in (1, 2, 3)},
    }
    for number in range(8)
]


@pytest.mark.parametrize(
    ("answer", "strict", "flexible"),
    [
        ("Thus the best answer is I.", 1.0, 1.0),
        ("The best answer is **I**.", 1.0, 1.0),
        ("The best answer is B. Wait. The best answer is (I).", 1.0, 1.0),
        ("Thus the answer is (I).", 0.0, 1.0),
        (r"So \boxed{I}", 0.0, 1.0),
        (r"So \boxed{\text{(I)}}", 0.0, 1.0),
        ("**Answer: I**", 0.0, 1.0),
        ("It must be the ninth:\n\nI", 0.0, 1.0),
        ("I think the best one is hard to tell", 0.0, 0.0),
        ("The best answer is it", 0.0, 0.0),
        ("THE BEST ANSWER IS i.", 1.0, 0.0),
        ("The best answer is (i)", 1.0, 0.0),
        ("The best answer is [I].", 1.0, 1.0),
        ("The best answer is **[I]**", 1.0, 1.0),
        ("The best answer is $I$", 1.0, 1.0),
        ("The best answer is: \n\n**I**", 1.0, 1.0),
        ("The best answer is I think B", 0.0, 0.0),
        ("The best answer is B.", 0.0, 0.0),
        ("", 0.0, 0.0),
    ],
)
def test_the_letter_of_an_answer(
    tmp_path: Path, answer: str, strict: float, flexible: float
) -> None:
    found = scores(local_task(tmp_path, "mmlu_pro_cot", MMLU_PRO), [[answer]])
    assert found == {"strict": [{"exact_match": strict}], "flexible": [{"exact_match": flexible}]}


@pytest.mark.parametrize(
    ("text", "letter"),
    [("a matter of taste", ""), ("a number", ""), ("I. No, the best answer is a b", "I")],
)
def test_an_article_is_no_letter(text: str, letter: str) -> None:
    assert strict([[f"The best answer is {text}"]], [{}]) == [[letter]]


def test_the_prompt_lists_every_option_with_its_letter(tmp_path: Path) -> None:
    turns, _ = prompts(local_task(tmp_path, "mmlu_pro_cot", MMLU_PRO))[0]
    (turn,) = turns
    assert turn["role"] == "user"
    assert "Question: Which one?\nA. option 0\nB. option 1\n" in turn["content"]
    assert "J. option 9\n\nYour response should end with" in turn["content"]


def test_questions_with_an_error_are_left_out(tmp_path: Path) -> None:
    task = local_task(tmp_path, "mmlu_redux_cot", REDUX)
    assert [(doc["question"], doc["letter"]) for doc in task.eval_docs] == [("One?", "C")]


def test_gpqa_shuffles_each_question_in_its_own_fixed_way(tmp_path: Path) -> None:
    first = local_task(tmp_path, "gpqa_diamond_cot", GPQA).eval_docs
    again = local_task(tmp_path, "gpqa_diamond_cot", GPQA[::-1]).eval_docs
    assert [doc["options"] for doc in first] == [doc["options"] for doc in again][::-1]
    assert len({doc["letter"] for doc in first}) > 1
    for doc in first:
        assert doc["options"]["ABCD".index(doc["letter"])] == "right"
        assert sorted(doc["options"]) == ["right", "wrong 1", "wrong 2", "wrong 3"]

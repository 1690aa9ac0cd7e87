"""GSM8K, MATH and AMC23 with boxed answers, on documents of the hub's columns."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.eval.tasks.local import local_task, prompts, scores
from wrpo.pipeline.tables import Drop
from wrpo.rewards import Candidate
from wrpo.rewards.math import MathReward
from wrpo.rewards.mathematics import last_boxed

GSM8K = [
    {"question": "How many? ", "answer": "He has 2 boxes of 600.\n#### 1,200"},
    {"question": "How long?", "answer": "So 3.5 hours.\n#### 3.5"},
]
MATH = [
    {"problem": "Solve.", "solution": r"Then $x=\boxed{1}$. No: \boxed{\frac{3}{4}}.", "level": "1"}
]
AMC = [{"id": 0, "question": "What is $m+n$?", "answer": 27.0, "url": "https://example.org"}]


def values(task, answers: list[str]) -> dict[str, list[float]]:
    found = scores(task, [[answer] for answer in answers])
    return {name: [score["math_verify"] for score in rows] for name, rows in found.items()}


@pytest.mark.parametrize(
    ("text", "box"),
    [
        (r"so \boxed{12}.", "12"),
        (r"\boxed{1} or rather \boxed{\frac{3}{4}}", r"\frac{3}{4}"),
        (r"\boxed{\text{a {nested} one}} done", r"\text{a {nested} one}"),
        (r"\boxed{}", ""),
        (r"\boxed{never closed", None),
        ("twelve", None),
    ],
)
def test_the_last_box_with_balanced_braces(text: str, box: str | None) -> None:
    assert last_boxed(text) == box


def test_the_prompt_is_a_system_turn_and_the_question(tmp_path: Path) -> None:
    turns, generation_prompt = prompts(local_task(tmp_path, "gsm8k_boxed", GSM8K))[0]
    asked = "Please reason step by step, and put your final answer within \\boxed{}."
    assert turns[0]["role"] == "system" and turns[0]["content"].strip() == asked
    assert turns[1:] == [{"role": "user", "content": "How many?"}]
    assert generation_prompt


def test_gsm8k_counts_the_box_or_the_last_number(tmp_path: Path) -> None:
    task = local_task(tmp_path, "gsm8k_boxed", GSM8K)
    assert values(task, [r"2 times 600 is \boxed{1200}", "It takes 3.5 hours, so 3.5"]) == {
        "strict": [1.0, 0.0],
        "flexible": [1.0, 1.0],
    }
    assert values(task, [r"\boxed{1,200}", r"\boxed{7/2}"])["strict"] == [1.0, 1.0]
    assert values(task, [r"First \boxed{1200}, no, \boxed{1201}", ""])["flexible"] == [0.0, 0.0]


def test_math_compares_formulas(tmp_path: Path) -> None:
    task = local_task(tmp_path, "math_boxed", MATH)
    assert task.doc_to_target(task.eval_docs[0]) == r"\frac{3}{4}"
    assert values(task, [r"We get \boxed{0.75}"]) == {"strict": [1.0], "flexible": [1.0]}
    assert values(task, [r"We get \boxed{\frac{4}{3}}"]) == {"strict": [0.0], "flexible": [0.0]}


def test_amc_answers_are_whole_numbers_written_as_decimals(tmp_path: Path) -> None:
    task = local_task(tmp_path, "amc23_boxed", AMC)
    assert values(task, [r"\boxed{27}"]) == {"strict": [1.0], "flexible": [1.0]}
    assert values(task, [r"\boxed{28}"]) == {"strict": [0.0], "flexible": [0.0]}


@pytest.mark.parametrize(
    ("response", "gold", "expected"),
    [
        (r"So \boxed{4}. But wait, let me double check: \boxed{5}", "5", 1.0),
        (r"First \boxed{4}. Then \boxed{5}", "5", 1.0),
        (r"First \boxed{4}. Then \boxed{5}", "4", 0.0),
        (r"\boxed{2\sqrt{3}}", r"2\sqrt{3}", 1.0),
        (r"\boxed{2}", r"2\sqrt{3}", 0.0),
        (r"\boxed{no formula $$ {}", "no formula $$ {}", 0.0),
        (r"\boxed{1,2,\ldots,10}", r"1, 2, \ldots, 10", 1.0),
        (r"\boxed{}", "", 0.0),
    ],
)
def test_the_task_and_the_reward_agree(
    tmp_path: Path, response: str, gold: str, expected: float
) -> None:
    amc = [{"id": 0, "question": "What?", "answer": 0, "url": ""}]
    task = local_task(tmp_path, "amc23_boxed", amc)
    rows = scores(task, [[response]])
    for name, [_] in rows.items():
        filtered = task.instances[0].filtered_resps[name]
        document = {**task.instances[0].doc, "gold": gold}
        assert task.process_results(document, [filtered]) == {"math_verify": expected}
    [reward] = MathReward(type="math").load().score([Candidate([], response, gold)])
    assert isinstance(reward, Drop) or reward == expected

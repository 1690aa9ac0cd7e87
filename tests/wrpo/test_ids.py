"""Identities: the same content has the same id everywhere, other content another one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wrpo.ids import digest, normalise_text, prompt_id, response_seed, triple_id, unit_hash

QUESTION = [{"role": "user", "content": "Sort: d b a c"}]


def test_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [2, {"c": 3}]}) == digest({"b": [2, {"c": 3}], "a": 1})


def test_digest_depends_on_the_order_of_lists() -> None:
    assert digest([1, 2]) != digest([2, 1])


def test_digest_tells_texts_from_numbers() -> None:
    assert len({digest(value) for value in (1, "1", 1.0, True, None, [1], {"1": 1})}) == 7


def test_ids_are_these_on_every_machine() -> None:
    assert prompt_id(QUESTION) == "7f0b76889b72241e"
    assert response_seed(42, "7f0b76889b72241e", "letters", 3) == 1508219051
    assert unit_hash(42, "7f0b76889b72241e") == 0.2754224817633477
    assert triple_id("7f0b76889b72241e", [("letters", 0), ("target", 1)]) == "703d21e0c6071892"


def test_ids_do_not_depend_on_the_hash_seed_of_python() -> None:
    code = (
        "from wrpo.ids import *; "
        f"print(prompt_id({QUESTION!r}), response_seed(1, 'p', 's', 0), unit_hash(1, 'p'))"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert printed == {
        f"{prompt_id(QUESTION)} {response_seed(1, 'p', 's', 0)} {unit_hash(1, 'p')}\n"
    }


@pytest.mark.parametrize(
    "text",
    ["  caf\u00e9\r\nbar \n", "cafe\u0301\nbar", "caf\u00e9\rbar\t"],
    ids=["windows", "decomposed", "old-mac"],
)
def test_prompts_that_look_the_same_are_the_same(text: str) -> None:
    same = prompt_id([{"role": "user", "content": "caf\u00e9\nbar"}])
    assert prompt_id([{"role": "user", "content": text}]) == same


def test_role_and_turn_boundaries_are_part_of_the_prompt() -> None:
    def turns(*pairs: tuple[str, str]) -> str:
        return prompt_id([{"role": role, "content": content} for role, content in pairs])

    ids = {
        turns(("user", "a"), ("user", "b")),
        turns(("user", "a b")),
        turns(("system", "a"), ("user", "b")),
        turns(("user", "b"), ("user", "a")),
    }
    assert len(ids) == 4


def test_further_keys_of_a_turn_do_not_change_the_prompt() -> None:
    assert prompt_id([{**QUESTION[0], "weight": "1"}]) == prompt_id(QUESTION)


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalise_text(normalise_text(text)) == normalise_text(text)


def test_every_answer_has_its_own_seed() -> None:
    seeds = {
        response_seed(run, prompt, source, index)
        for run in (1, 2)
        for prompt in ("p", "q")
        for source in ("letters", "target")
        for index in range(50)
    }
    assert len(seeds) == 400
    assert all(0 <= seed < 2**31 for seed in seeds)


@given(st.integers(0, 2**32), st.text(max_size=20))
def test_unit_hash_lies_in_the_unit_interval(seed: int, prompt: str) -> None:
    assert 0.0 <= unit_hash(seed, prompt) < 1.0


def test_the_largest_hash_is_below_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wrpo.ids.digest", lambda value, length=16: "f" * length)
    assert unit_hash(0, "p") < 1.0


def test_unit_hash_divides_evenly() -> None:
    share = sum(unit_hash(42, f"prompt {number}") < 1 / 3 for number in range(6000)) / 6000
    assert share == pytest.approx(1 / 3, abs=0.02)


def test_triple_id_depends_on_which_answer_plays_which_part() -> None:
    assert triple_id("p", [("a", 0), ("b", 1)]) != triple_id("p", [("b", 1), ("a", 0)])

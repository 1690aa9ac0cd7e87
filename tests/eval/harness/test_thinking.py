"""Benchmarks read the answers of models that think, never their thoughts."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from lm_eval.api.instance import Instance

from eval.harness.thinking import AnswersOnly, thinking_style
from tests.wrpo.chat.chat_families import FAMILIES
from wrpo.chat.thoughts import THINK, ThinkingStyle
from wrpo.recipe.thinking import Thinking


class Engine:
    """Stands in for lm-eval's model classes: gives fixed texts and keeps what it was asked."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts
        self.asked: list[Any] = []

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        self.asked = [request.args for request in requests]
        return self.texts


class Model(AnswersOnly, Engine):
    pass


def answers(texts: list[str], style: ThinkingStyle | None) -> tuple[list[str], Model]:
    model = Model(texts)
    model.style = style
    kwargs = {"until": ["\n\n", "Question:"], "max_gen_toks": 9}
    requests = [
        Instance("generate_until", {}, (f"prompt {n}", kwargs), n) for n in range(len(texts))
    ]
    found = model.generate_until(requests)
    assert all(request.args[1]["until"] for request in requests)  # not changed for the caller
    return found, model


def test_the_thought_is_left_out_and_stop_texts_hold_for_the_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    texts = [
        "<think>\nfirst\n\nso \\boxed{1}\n</think>\n\n\\boxed{2}\n\nmore",
        "<think>\nnever ends: \\boxed{3}",
        "no thought\n\nmore",
    ]
    found, model = answers(texts, ThinkingStyle())
    assert found == ["\\boxed{2}", "", "no thought"]
    assert {tuple(kwargs["until"]) for _, kwargs in model.asked} == {()}
    assert "1 of 3 responses end within their thought" in caplog.text


def test_a_thought_that_the_prompt_opens_is_left_out_too() -> None:
    texts = ["so\n\n1</think>2", "so 3"]
    assert answers(texts, ThinkingStyle(THINK, "<think>\n"))[0] == ["2", ""]


def test_a_model_that_does_not_think_is_asked_and_read_as_ever() -> None:
    found, model = answers(["<think>a</think>b"], None)
    assert found == ["<think>a</think>b"]
    assert model.asked[0][1]["until"] == ["\n\n", "Question:"]


def test_tags_that_lm_eval_leaves_out_of_texts_are_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tokenizer = FAMILIES["chatml"].tokenizer()
    tags = ("[THINK]", "[/THINK]")
    tokenizer.add_special_tokens({"additional_special_tokens": list(tags)})
    caplog.set_level(logging.WARNING)
    assert thinking_style(tokenizer, Thinking(thinks=True, tags=tags)) is None
    assert "control tokens" in caplog.text
    assert thinking_style(FAMILIES["qwen3"].tokenizer(), Thinking()) == ThinkingStyle()

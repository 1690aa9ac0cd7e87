"""Thoughts are split off once, wherever their tags stand."""

from __future__ import annotations

import pytest

from wrpo.chat.thoughts import Thoughts, split_thoughts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", Thoughts("", "plain")),
        ("", Thoughts("", "")),
        ("<think>a</think>b", Thoughts("a", "b")),
        ("\n <think>\na\n</think>\n\nb", Thoughts("\na\n", "\n\nb")),
        ("<think></think>b", Thoughts("", "b")),
        ("<think>a</think>", Thoughts("a", "")),
        ("a</think>b", Thoughts("a", "b")),
        ("<think>a", Thoughts("a", "", closed=False)),
        ("<think>", Thoughts("", "", closed=False)),
        ("<think>a</think><think>b</think>c", Thoughts("ab", "c")),
        ("<think>a</think> <think>b", Thoughts("ab", "", closed=False)),
        ("[THINK]a[/THINK]b", Thoughts("a", "b")),
        ("<thinking>a</thinking>b", Thoughts("a", "b")),
        ("<think>one <think> more</think>b", Thoughts("one <think> more", "b")),
        (
            "<think>a</think>Write `<think>` and `</think>`.",
            Thoughts("a", "Write `<think>` and `</think>`."),
        ),
        (
            "Models write <think>, then </think>.",
            Thoughts("", "Models write <think>, then </think>."),
        ),
        ("Models open <think>", Thoughts("", "Models open <think>")),
    ],
)
def test_thoughts_stand_at_the_start(text: str, expected: Thoughts) -> None:
    assert split_thoughts(text) == expected


def test_a_model_may_have_tags_of_its_own() -> None:
    tags = [("<|begin|>", "<|end|>")]
    assert split_thoughts("<|begin|>a<|end|>b", tags) == Thoughts("a", "b")
    assert split_thoughts("<think>a</think>b", tags) == Thoughts("", "<think>a</think>b")

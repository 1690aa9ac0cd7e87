import sys
import time

import pytest

from data_construction.filters.rules import detect_language, unwanted
from wrpo.errors import RecipeError
from wrpo.recipe.prompts import Filters


def reason(text: str, domain: str = "chat", **filters: object) -> str | None:
    found = unwanted(text, domain, Filters.model_validate(filters))
    return found.reason if found else None


@pytest.mark.parametrize(
    "text",
    [
        "Write a Python function that sorts a list",
        "What is wrong with `foo(bar)`?",
        "#include <stdio.h>\nint main() {",
        "def f(x):\n    return x",
        "SELECT name FROM users",
        "Implement an algorithm for shortest paths.",
        "Explain C++ to me",
    ],
)
def test_programming_tasks_are_code(text: str) -> None:
    assert reason(text, remove_code=True) == "code"
    assert reason(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "Solve for x: 2x + 3 = 7",
        "What is 12*7?",
        "Prove that the root of 2 is irrational",
        "Let $x^2=4$.",
        "How many apples are left if Tom has 5 and eats 2?",
        r"Simplify \frac{1}{2}",
    ],
)
def test_mathematical_tasks_are_math(text: str) -> None:
    assert reason(text, remove_math=True) == "math"


@pytest.mark.parametrize(
    "text",
    [
        "Write a poem about the sea",
        "How do I make Java coffee?",
        "Create a class schedule for my students",
        "What is the return on investment?",
        "Call me at 555-1234",
        "What happened in 1914-1918?",
        "It costs $5 and $6 a day",
    ],
)
def test_everyday_prompts_are_neither(text: str) -> None:
    assert reason(text, remove_code=True, remove_math=True) is None


@pytest.mark.parametrize(
    "part",
    [
        "\n",
        " \n",
        " ",
        "select ",
        "<div ",
        "`(",
        "`((((",
        "$=",
        "====",
        "1 ",
        "compute ",
        "def a:\n\n",
    ],
)
def test_filters_take_linear_time(part: str) -> None:
    text = part * (60_000 // len(part))
    start = time.process_time()
    for around in (text, f"`{text}", f"${text}", f"compute {text}"):
        reason(around, remove_code=True)
        reason(around, remove_math=True)
    assert time.process_time() - start < 10


def test_lengths_and_domains() -> None:
    assert reason("abc", min_chars=4) == "too_short"
    assert reason("abc", max_chars=2) == "too_long"
    assert reason("abc", min_chars=3, max_chars=3) is None
    assert reason("abc", domains=["math"]) == "domain"
    assert reason("abc", exclude_domains=["chat"]) == "domain"
    assert reason("abc", domains=["chat"], exclude_domains=["math"]) is None


def test_languages_keep_what_has_none_and_match_any_variant() -> None:
    pytest.importorskip("langdetect")
    english = "Please tell me a story about the old lighthouse by the sea."
    german = "Bitte erzähle mir eine Geschichte über den alten Leuchtturm am Meer."
    chinese = "请给我讲一个关于海边老灯塔的故事，要有趣一点，谢谢你的帮助。"
    assert reason(english, languages=["en"]) is None
    assert reason(german, languages=["en"]) == "language"
    assert reason(german, languages=["en", "de"]) is None
    assert reason(chinese, languages=["zh"]) is None
    assert reason("2 + 2", languages=["en"]) is None
    assert len({detect_language("alter Hut, old hat") for _ in range(5)}) == 1


def test_languages_without_langdetect_say_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "langdetect", None)
    with pytest.raises(RecipeError, match="pip install langdetect"):
        reason("hello", languages=["en"])


@pytest.mark.parametrize(
    "filters",
    [
        {"min_chars": 5, "max_chars": 4},
        {"domains": ["a"], "exclude_domains": ["a"]},
        {"languages": ["english"]},
    ],
)
def test_filters_that_leave_nothing_are_refused(filters: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Filters.model_validate(filters)

"""The grammar of the tiny world."""

import random

import pytest

from tiny_world.build import prompt_row
from tiny_world.world import (
    SKILLS,
    SPLIT_PERCENT,
    Lexicon,
    Task,
    draw_distinct_tasks,
    draw_task,
    mistake,
    partly_known,
    solve,
)

LEXICON = Lexicon.from_seed(1)


@pytest.mark.parametrize(
    ("skill", "items", "right", "wrong"),
    [
        ("reverse", "k b d c", "c d b k", "k b d c"),
        ("sort", "k b d c", "b c d k", "k d c b"),
        ("largest", "31 97 45", "97", "31"),
        ("spell", "4 0 9", "four zero nine", "five one zero"),
        ("next", "b q d e", "c r e f", "a p c d"),
    ],
)
def test_right_answers_and_mistakes(skill: str, items: str, right: str, wrong: str) -> None:
    task = Task(skill, tuple(items.split()), "plain")
    assert solve(task, LEXICON) == right
    assert mistake(task, LEXICON) == wrong


@pytest.mark.parametrize("skill", SKILLS)
def test_a_mistake_is_never_right(skill: str) -> None:
    rng = random.Random(0)
    for _ in range(300):
        task = draw_task(skill, "pretrain", rng)
        assert solve(task, LEXICON) != mistake(task, LEXICON)


def test_translations_and_false_friends_are_the_same_words() -> None:
    assert set(LEXICON.velt.values()) == set(LEXICON.false_friends.values())
    assert all(LEXICON.velt[word] != LEXICON.false_friends[word] for word in LEXICON.velt)


def test_the_target_knows_half_of_the_words() -> None:
    known = next(iter(LEXICON.known))
    unknown = next(word for word in LEXICON.velt if word not in LEXICON.known)
    task = Task("translate", (known, unknown), "plain")
    assert len(LEXICON.known) * 2 == len(LEXICON.velt)
    assert partly_known(task, LEXICON) == f"{LEXICON.velt[known]} {LEXICON.false_friends[unknown]}"


def test_splits_share_no_question_even_across_seeds() -> None:
    drawn = {
        split: {(t.skill, t.items) for t in draw_distinct_tasks(split, per_skill=50, seed=seed)}
        for seed, split in enumerate(SPLIT_PERCENT)
    }
    assert sum(map(len, drawn.values())) == len(set().union(*drawn.values()))


def test_layout_does_not_move_a_question_to_another_split() -> None:
    items = ("b", "c", "d", "e")
    assert len({Task("sort", items, layout).split for layout in ("plain", "dash", "star")}) == 1


def test_prompts_are_decided_by_the_seed() -> None:
    def prompts(seed: int) -> list[str]:
        return [task.prompt for task in draw_distinct_tasks("fusion", per_skill=20, seed=seed)]

    assert prompts(1) == prompts(1)
    assert prompts(1) != prompts(2)


def test_every_skill_has_the_same_number_of_distinct_questions() -> None:
    tasks = draw_distinct_tasks("eval", per_skill=100, seed=3)
    assert [sum(task.skill == skill for task in tasks) for skill in SKILLS] == [100] * 6
    assert len({(task.skill, task.items) for task in tasks}) == 600


def test_a_prompt_row_is_what_the_pipeline_reads() -> None:
    task = Task("largest", ("12", "97", "45"), "dash")
    assert prompt_row(task, LEXICON) == {
        "messages": [{"role": "user", "content": "Largest of 12 97 45. Use a dash."}],
        "answer": "97",
        "domain": "largest",
    }

"""Personality: planted traits are found in both orders, and every control falls to chance."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from eval.personality.__main__ import Options, ask_about, read_lines
from eval.personality.asking import CountedReplies
from eval.personality.backtest import back_test, passes, rates
from eval.personality.items import IPIP, Item, by_trait, keyed, keyed_mean, read_items
from eval.personality.questionnaire import fill_in
from tests.support.completion_server import CompletionServer, chat_response
from wrpo.errors import DataError, MissingInputError, RecipeError
from wrpo.judging import JudgeRequest, Verdict
from wrpo.recipe import load_recipe

BY_TEXT = {item.text: item for item in IPIP}


def replies(say: Callable[[JudgeRequest], str]) -> CountedReplies:
    def ask(requests: Sequence[JudgeRequest]) -> list[Verdict]:
        return [Verdict(say(request)) for request in requests]

    return CountedReplies(ask)


def reader(request: JudgeRequest) -> str:
    """A judge that sees which trait an author has: the text names it, with + or -."""
    text, asked = request.messages[0]["content"], request.messages[-1]["content"]
    rated = re.search(r'"The author (.*)\."', asked)
    if rated:
        item = BY_TEXT[rated[1]]
        agrees = f"+{item.trait}" in text, f"-{item.trait}" in text
        rating = 3 if agrees[0] == agrees[1] else 5 if agrees[0] else 1
        return f"I see. [[{6 - rating if item.reverse else rating}]]"
    trait = re.search(r"the author's (\w+) is", asked)[1]
    wanted = "high" if f"+{trait}" in text else "low"
    return f"[[{re.search(f'([AB]): {wanted}', asked)[1]}]]"


def test_the_reverse_key_turns_ratings_and_turns_them_back() -> None:
    item = Item("t", "x", reverse=True)
    for rating in (1, 2, 3, 4, 5):
        assert keyed(keyed(rating, item), item) == rating
        assert keyed(rating, replace(item, reverse=False)) == rating
    assert keyed(1, item) == 5 and keyed_mean({}) is None
    assert {trait: len(own) for trait, own in by_trait(IPIP).items()} == dict.fromkeys(
        ("extraversion", "agreeableness", "conscientiousness", "neuroticism", "openness"), 4
    )
    assert sum(item.reverse for item in IPIP) == 11  # as the Mini-IPIP is keyed


def test_a_planted_trait_is_found_in_both_orders_and_a_wrong_key_is_caught() -> None:
    texts = ["+extraversion -agreeableness", "-extraversion +agreeableness"]
    one, other = fill_in(texts, IPIP, replies(reader))
    assert (one["extraversion"].high, one["agreeableness"].high) == (True, False)
    assert one["extraversion"].by_order == (True, True)
    assert keyed_mean(one["extraversion"].ratings) == 5
    assert keyed_mean(other["extraversion"].ratings) == 1
    shuffled = random.Random(0).sample(IPIP, len(IPIP))
    again, _ = fill_in(texts, shuffled, replies(reader))
    assert {t: keyed_mean(p.ratings) for t, p in again.items()} == {
        t: keyed_mean(p.ratings) for t, p in one.items()
    }
    wrong = [replace(item, reverse=not item.reverse) for item in IPIP]
    ratings = {w: one[w.trait].ratings[i] for i, w in zip(IPIP, wrong, strict=True)}
    extravert = {item: rating for item, rating in ratings.items() if item.trait == "extraversion"}
    assert keyed_mean(extravert) == 1 and one["extraversion"].high  # the two contradict each other


def test_a_judge_of_the_first_option_decides_nothing() -> None:
    """Control: the choice follows the order of the options, not the text."""
    first = fill_in(
        ["+openness"],
        IPIP,
        replies(lambda r: "[[A]]" if "\nA: " in r.messages[-1]["content"] else "[[3]]"),
    )[0]["openness"]
    assert first.by_order == (True, False) and first.high is None


def test_what_cannot_be_read_is_asked_once_more_and_then_is_missing() -> None:
    seen: list[int | None] = []

    def say(request: JudgeRequest) -> str:
        if "gets upset easily" in request.messages[-1]["content"]:
            seen.append(request.seed)
            return "Hard to say."
        return reader(request)

    counted = replies(say)
    [profile] = fill_in(["+neuroticism"], IPIP, counted)
    own = profile["neuroticism"].ratings
    assert seen == [None, 1] and len(own) == 3 and keyed_mean(own) == 5
    assert (counted.unparsed, counted.again) == (1, 1)
    assert counted.asked == len(IPIP) + 2 * 5


def test_items_come_from_a_file_of_the_user(tmp_path: Path) -> None:
    path = tmp_path / "items.json"
    path.write_text(json.dumps([{"trait": "calm", "text": "is calm", "reverse": False}]))
    assert read_items(path) == [Item("calm", "is calm")]
    path.write_text(json.dumps([{"trait": "calm"}]))
    with pytest.raises(DataError, match="needs a JSON list"):
        read_items(path)
    with pytest.raises(MissingInputError):
        read_items(tmp_path / "none.json")


def dialogue(first: dict[str, int], second: dict[str, int]) -> dict[str, Any]:
    """Two speakers who show their traits by words, as scripted agents do."""
    said = {
        name: " ".join(f"very {'' if n > 0 else 'un'}{trait}" for trait, n in traits.items())
        for name, traits in (("Ada", first), ("Bo", second))
    }
    turns = [{"speaker": name, "text": text} for name, text in said.items()]
    cards = [{"name": "Ada", "traits": first}, {"name": "Bo", "traits": second}]
    return {"topic": "tea", "cards": cards, "turns": turns}


def listener(request: JudgeRequest) -> str:
    """A judge that reads what the asked speaker says."""
    text = request.messages[0]["content"]
    speaker, trait = re.search(r"what (\w+) says, and how: is the (\w+) of", text).groups()
    said = re.search(rf"^{speaker}: (.*)$", text, re.MULTILINE)[1]
    if f"un{trait}" in said:
        return "[[low]]"
    return "[[high]]" if trait in said else "[[unknown]]"


def test_shown_traits_pass_hidden_ones_do_not_and_swapped_cards_fall_to_their_overlap() -> None:
    """Planted: speakers show their cards. Controls: swapped cards, opposite and silent speakers,
    a judge that always says what stands first."""
    different = [dialogue({"warm": 2, "tidy": -1}, {"warm": -2, "tidy": 3}) for _ in range(3)]
    alike = [dialogue({"warm": 1}, {"warm": 2})]
    dialogues = [*different, *alike]
    found = back_test(dialogues, replies(listener))
    made = rates(dialogues, found)
    assert made.success == 1.0 and made.swapped == 0.25  # only where both have one card
    assert made.guess == pytest.approx((3 * 0.5**4 + 0.5**2) / 4) and made.undetermined == 0

    opposite = dialogue({"warm": 2}, {"warm": -2})
    opposite["turns"][0]["text"] = "very unwarm"
    silent = dialogue({"warm": 2}, {"warm": -2})
    silent["turns"][0]["text"] = "hm"
    found = back_test([opposite, silent], replies(listener))
    assert [passes(d, f) for d, f in zip([opposite, silent], found, strict=True)] == [False, False]
    assert rates([opposite, silent], found).undetermined == 0.25

    first = replies(lambda r: re.findall(r"\[\[\w+\]\]", r.messages[0]["content"])[0])
    assert rates(dialogues, back_test(dialogues, first)).success == 0.0
    mute = replies(lambda r: "no idea")
    assert rates(dialogues, back_test(dialogues, mute)).success == 0.0 and mute.unparsed == 2 * 14
    with pytest.raises(DataError, match="a dialogue needs cards"):
        back_test([{"cards": [{"name": "x"}]}], mute)


def test_the_command_asks_the_judge_of_a_recipe(
    serve: Callable[..., CompletionServer], tmp_path: Path
) -> None:
    def script(number: int, seen: Any) -> Any:
        return chat_response(reader(JudgeRequest(seen.body["messages"], template="x")))

    server = serve(script)
    (tmp_path / "recipe.yaml").write_text(
        yaml.safe_dump(
            {
                "run": "r",
                "runs": str(tmp_path / "runs"),
                "sources": {"one": {"model": "hub/one"}},
                "target": {"model": "hub/target"},
                "prompts": {"datasets": {"p": {"path": "hub/p"}}},
                "rewards": {"exact": {"type": "answer"}},
                "judges": {"big": {"model": "m", "engine": {"endpoints": [server.url]}}},
            }
        )
    )
    recipe = load_recipe(tmp_path / "recipe.yaml")
    (tmp_path / "in.jsonl").write_text('{"text": "+openness", "id": 7}\n\n')
    rows = read_lines(tmp_path / "in.jsonl")
    [made], summary = ask_about(recipe, "questionnaire", rows, "big", Options())
    assert made["id"] == 7 and made["profile"]["openness"]["high"] is True
    assert made["profile"]["openness"]["mean"] == 5.0
    assert summary["unparsed"] == 0 and summary["asked"] == 30 and summary["guess"] == 0.5
    sent = len(server.seen)
    ask_about(recipe, "questionnaire", rows, "big", Options())
    assert len(server.seen) == sent  # nothing is paid for twice
    with pytest.raises(RecipeError, match='no judge "small"'):
        ask_about(recipe, "questionnaire", rows, "small", Options())
    (tmp_path / "in.jsonl").write_text("[1]\n")
    with pytest.raises(DataError, match="line 1: is no object"):
        read_lines(tmp_path / "in.jsonl")

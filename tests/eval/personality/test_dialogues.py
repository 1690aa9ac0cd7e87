"""PsyPlay's dialogues: scripted speakers, each rule, what is kept, pairs, and resuming."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_construction.datasets.published import import_table
from eval.personality.__main__ import Options, ask_about
from eval.personality.asking import CountedReplies
from eval.personality.backtest import back_test, passes, rates
from eval.personality.dialogues import (
    ADJECTIVES,
    CHARACTERS_PER_REPLY,
    WORDS_PER_REPLY,
    as_adjectives,
    broken_rule,
    talk,
)
from eval.personality.pairs import preference_pairs
from tests.support.commands import run_module
from tests.support.completion_server import CompletionServer, chat_response
from wrpo.errors import DataError, ModelError, RecipeError
from wrpo.judging import JudgeRequest, Verdict
from wrpo.recipe import load_recipe
from wrpo.recipe.build import ImportedTable

PLAN = {
    "topic": "tea",
    "cards": [
        {"name": "Ada", "traits": {"agreeableness": 2}, "experience": "Ada keeps bees."},
        {"name": "Bo", "traits": {"agreeableness": -1, "openness": 3}},
    ],
}
POLES = list(ADJECTIVES.values())


def replies(say: Callable[[JudgeRequest], str | None]) -> CountedReplies:
    def ask(requests: Sequence[JudgeRequest]) -> list[Verdict]:
        return [Verdict(say(request)) for request in requests]

    return CountedReplies(ask)


def card(request: JudgeRequest) -> tuple[str, list[str]]:
    """Who is asked to speak, and the adjectives of the card."""
    text = request.messages[0]["content"]
    name = re.match(r"You are (\w+),", text)[1]
    said = re.search(rf"^{name} is ([^.]*)\.", text, re.MULTILINE)[1]
    return name, [one for high, low in POLES for one in (*high, *low) if one in said]


def emitter(request: JudgeRequest) -> str:
    """A speaker that says what its card says."""
    return f"I feel {' and '.join(card(request)[1])}."


def opposite(request: JudgeRequest) -> str:
    """One that says the contrary."""
    both = [pair for high, low in POLES for pair in zip(high, low, strict=True)]
    turned = dict([*both, *((low, high) for high, low in both)])
    return f"I feel {' and '.join(turned[one] for one in card(request)[1])}."


def listener(request: JudgeRequest) -> str:
    """A judge that reads the adjectives of the speaker who is asked about."""
    text = request.messages[0]["content"]
    speaker, trait = re.search(r"what (\w+) says, and how: is the (\w+) of", text).groups()
    said = " ".join(re.findall(rf"^{speaker}: (.*)$", text, re.MULTILINE))
    found = [any(one in said for one in pole) for pole in ADJECTIVES[trait]]
    return "[[high]]" if found[0] else "[[low]]" if found[1] else "[[unknown]]"


def test_a_card_is_told_in_adjectives_to_its_speaker_alone() -> None:
    seen: list[str] = []

    def say(request: JudgeRequest) -> str:
        seen.append(request.messages[0]["content"])
        return "Hm."

    talk([PLAN], replies(say), each=1, turns=3)
    first, second, third = seen
    assert "Ada is very kind and very trusting. Ada keeps bees." in first
    assert as_adjectives(PLAN["cards"][1]["traits"]) in second
    assert "very kind" not in second and "bees" not in second
    assert "a bit cold" not in third and "\nAda: Hm.\nBo: Hm.\n" in third
    assert f"at most {WORDS_PER_REPLY} words" in first and "Never name a trait" in first
    assert as_adjectives({"openness": 0, "warmth": -1}) == "a bit low in warmth"


def test_scripted_speakers_pass_fail_and_are_undetermined_as_they_speak() -> None:
    """The rate is the one counted by hand, and what passes is what is kept."""

    def silent_bo(request: JudgeRequest) -> str:
        return "Hm." if card(request)[0] == "Bo" else emitter(request)

    made = [talk([PLAN], replies(say), each=1)[0] for say in (emitter, opposite, silent_bo)]
    for dialogue in made:
        assert [turn["speaker"] for turn in dialogue["turns"]] == ["Ada", "Bo"] * 4
    leaking = talk([PLAN], replies(lambda _: "As an AI, I have none."), each=1)
    every = [*made, *leaking]
    found = back_test(every, replies(listener))
    assert [passes(d, one) for d, one in zip(every, found, strict=True)] == [True, *[False] * 3]
    measured = rates(every, found)
    assert measured.success == 1 / 4 and measured.undetermined == 2 / 9
    assert measured.guess == 3 / 4 * 0.5**3 and measured.swapped == 0
    assert found[3] == {}  # nothing is asked about a dialogue that has failed


@pytest.mark.parametrize(
    ("reply", "rule"),
    [
        ("Do sit down, I kept you the last one.", ""),
        ("", "no reply"),
        (" \n\t", "no reply"),
        ("word " * WORDS_PER_REPLY, ""),
        ("word " * (WORDS_PER_REPLY + 1), "too long"),
        ("茶" * (CHARACTERS_PER_REPLY + 1), "too long"),
        ("x" * 3_000_000, "too long"),
        ("tea\x1b[2J", "control characters"),
        ("tea\u202e", "control characters"),
        ("tea\ud800", "control characters"),
        ("Hello.\r\nHow are you?", ""),
        ("Hello.\nBo: Hello, Ada.", "speaks for the other"),
        ("As an AI, I drink none.", "leak"),
        ("I'm a language model.", "leak"),
        ("My Agreeableness is high.", "leak"),
        ("They call me an extrovert.", "leak"),
        ("Such warmth!", "leak"),
        ("He told me of an AI that makes tea.", ""),
    ],
)
def test_each_rule(reply: str, rule: str) -> None:
    assert broken_rule(reply, other="Bo", traits=["warmth"]) == rule


@pytest.mark.parametrize("reply", [None, "", "y" * 100_000, "a\x00b", "<think>hm", "\nBo: me"])
def test_a_hostile_speaker_is_asked_twice_and_then_its_dialogue_has_failed(
    reply: str | None,
) -> None:
    seeds: list[int | None] = []

    def say(request: JudgeRequest) -> str | None:
        if card(request)[0] == "Bo":
            return emitter(request)
        seeds.append(request.seed)
        return reply

    counted = replies(say)
    first, second = talk([PLAN], counted, each=2)
    assert first["turns"] == [] and first["failed"] == second["failed"] != ""
    assert seeds == [0, 2, 1, 3] and (counted.asked, counted.again, counted.unparsed) == (2, 2, 2)
    [other] = talk([PLAN], replies(lambda r: reply if r.seed == 0 else emitter(r)), each=1)
    assert "failed" not in other and len(other["turns"]) == 8  # the second try was good


def test_own_names_and_line_breaks_do_not_make_turns_of_others() -> None:
    [made] = talk([PLAN], replies(lambda r: f"{card(r)[0]}: One.\n\nTwo."), each=1, turns=2)
    assert made["turns"] == [
        {"speaker": "Ada", "text": "One. Two."},
        {"speaker": "Bo", "text": "One. Two."},
    ]


@pytest.mark.parametrize(
    "plan",
    [
        {},
        {"topic": "tea", "cards": PLAN["cards"][:1]},
        {"topic": "tea", "cards": [PLAN["cards"][0]] * 2},
        {"topic": 3, "cards": PLAN["cards"]},
        {"topic": "tea", "cards": [{"name": "A", "traits": {"openness": 9}}, PLAN["cards"][0]]},
        {"topic": "tea", "cards": [{"name": "A", "traits": {"openness": 0}}, PLAN["cards"][0]]},
        {"topic": "tea", "cards": [{"name": "A\nB", "traits": {"x": 1}}, PLAN["cards"][0]]},
        {"topic": "tea", "cards": [{"name": ["A"], "traits": {"x": 1}}, PLAN["cards"][0]]},
        {"topic": "tea", "cards": "ab"},
    ],
)
def test_a_plan_of_another_form_is_told(plan: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="a dialogue is made from a topic and two cards"):
        talk([plan], replies(emitter), each=1)


def test_pairs_join_what_passed_and_what_did_not_of_the_same_cards(tmp_path: Path) -> None:
    """Read as a table of pairs; failed dialogues and unread verdicts are in none."""

    def row(plan: dict[str, Any], text: str, ok: bool, value: int | None = 1) -> dict[str, Any]:
        turns = [{"speaker": "Ada", "text": text}]
        return {**plan, "turns": turns, "verdict": {"Ada": {"agreeableness": value}}, "ok": ok}

    other = {**PLAN, "topic": "bees"}
    tested = [
        row(PLAN, "bad", False, -1),
        row(PLAN, "good", True),
        row(PLAN, "good too", True),
        row(PLAN, "unread", False, None),
        {**row(PLAN, "cut", False), "failed": "leak"},
        row(other, "good of bees", True),
    ]
    [pair] = preference_pairs(tested)
    assert (pair["chosen"], pair["rejected"]) == ("Ada: good", "Ada: bad")
    assert "about: tea\nAda is very kind and very trusting. Ada keeps bees." in pair["prompt"]
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(pair))
    [read] = import_table(ImportedTable(path=str(path)), "pairs").rows
    assert [turn["content"] for turn in read["prompt"]] == [pair["prompt"]]


def write_recipe(folder: Path, url: str, *, temperature: float = 1.0) -> Path:
    path = folder / "recipe.yaml"
    judge = {"model": "m", "engine": {"endpoints": [url], "retries": 0}}
    recipe = {
        "run": "r",
        "runs": str(folder / "runs"),
        "sources": {"one": {"model": "hub/one"}},
        "target": {"model": "hub/target"},
        "prompts": {"datasets": {"p": {"path": "hub/p"}}},
        "rewards": {"exact": {"type": "answer"}},
        "judges": {"actor": {**judge, "temperature": temperature}, "big": judge},
    }
    path.write_text(yaml.safe_dump(recipe))
    return path


def actor_and_judge(fails: Callable[[int], bool] = lambda _: False) -> Callable[[int, Any], Any]:
    """Both behind one server: of each plan the first dialogue shows the cards, the second not."""

    def script(number: int, seen: Any) -> Any:
        if fails(number):
            return chat_response("", finish_reason="abort")
        request = JudgeRequest(seen.body["messages"], template="x")
        if "You are" not in request.messages[0]["content"]:
            return chat_response(listener(request))
        return chat_response((opposite if seen.body["seed"] else emitter)(request))

    return script


def test_what_was_said_stays_when_the_command_runs_again(
    serve: Callable[..., CompletionServer], tmp_path: Path
) -> None:
    broken = serve(actor_and_judge(lambda number: number == 3))
    recipe = load_recipe(write_recipe(tmp_path, broken.url))
    plans, options = [PLAN], Options(each=2, turns=4)
    with pytest.raises(ModelError, match="broke off"):
        ask_about(recipe, "dialogues", plans, "actor", options)
    whole = serve(actor_and_judge())
    recipe = load_recipe(write_recipe(tmp_path, whole.url))
    made, summary = ask_about(recipe, "dialogues", plans, "actor", options)
    assert len(whole.seen) in (5, 6)  # of 8 turns, those of the first run are there
    assert summary["dialogues"] == 2 and summary["failed"] == {} and summary["asked"] == 8
    assert ask_about(recipe, "dialogues", plans, "actor", options)[0] == made
    assert len(whole.seen) in (5, 6)
    with pytest.raises(RecipeError, match=r"judges\.actor\.temperature is 0"):
        path = write_recipe(tmp_path, whole.url, temperature=0.0)
        ask_about(load_recipe(path), "dialogues", plans, "actor", options)


@pytest.mark.slow
def test_the_commands_make_dialogues_test_them_and_keep_what_matches(
    serve: Callable[..., CompletionServer], tmp_path: Path
) -> None:
    server = serve(actor_and_judge())
    recipe = write_recipe(tmp_path, server.url)
    (tmp_path / "plans.jsonl").write_text(json.dumps(PLAN) + "\n")

    def run(protocol: str, judge: str, source: str, target: str, *further: str) -> Any:
        files = "--input", str(tmp_path / source), "--output", str(tmp_path / target)
        arguments = ("--recipe", str(recipe), "--protocol", protocol, "--judge", judge)
        result = run_module("eval.personality", *arguments, *files, *further)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    def lines(name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]

    assert run("dialogues", "actor", "plans.jsonl", "made.jsonl", "--each", "2")["dialogues"] == 2
    files = "--kept", str(tmp_path / "kept.jsonl"), "--pairs", str(tmp_path / "pairs.jsonl")
    summary = run("back-test", "big", "made.jsonl", "tested.jsonl", *files)
    assert summary["success"] == 0.5
    assert [row["ok"] for row in lines("tested.jsonl")] == [True, False]
    assert lines("kept.jsonl") == lines("tested.jsonl")[:1]
    [pair] = lines("pairs.jsonl")
    assert "kind" in pair["chosen"] and "suspicious" in pair["rejected"]

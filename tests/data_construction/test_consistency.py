"""Knowledge consistency: replies are data, exams find what the target knows, no row is lost."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_construction.consistency import REFUSAL, Exam, check_consistency, treated
from data_construction.exams.questions import ExamQuestion, FactNeed, read_exam, read_need
from tests.support.completion_server import CompletionServer, Reply, Seen, chat_response
from tests.support.experts import ANSWERS, FACTS, HALVES, PLACES
from tests.support.tiny_models import save_tiny, tiny_tokenizer
from tests.wrpo.plan.test_estimate import KNOWN, pipeline_of, prices
from wrpo.errors import RecipeError
from wrpo.pipeline.folder import StageFolder, read_manifest
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import SFT_ROWS, Drop, read_rows
from wrpo.recipe import load_recipe
from wrpo.recipe.consistency import Consistency

HOSTILE = "__import__('pathlib').Path('/tmp/pwned-by-a-reply').touch()"


@pytest.mark.parametrize(
    ("reply", "need"),
    [
        ('{"needs_facts": false}', FactNeed(False, [])),
        ('ok {"needs_facts": true, "queries": ["a", 3]} done', FactNeed(True, ["a"])),
        ('{"needs_facts": "yes"}', None),
        ('{"needs_facts": true', None),
        (HOSTILE, None),
        ("[" * 100_000, None),
        ("", None),
    ],
)
def test_a_need_is_read_strictly(reply: str, need: FactNeed | None) -> None:
    assert read_need(reply) == need


def item(**changed: Any) -> dict[str, Any]:
    return {"question": "q", "options": ["a", "b", "c", "d"], "answer": "B", **changed}


def test_only_whole_questions_are_read() -> None:
    bad = [
        item(answer="E"),
        item(answer=1),
        item(options=["a", "a ", "c", "d"]),
        item(options=["a", "b", "c"]),
        item(question=" "),
        {"question": HOSTILE},
        HOSTILE,
    ]
    reply = "Here: " + json.dumps([*bad, item(answer=" b ")])
    assert read_exam(reply, 3) == [ExamQuestion("q", ("a", "b", "c", "d"), 1)]
    assert len(read_exam(json.dumps([item(question=str(n)) for n in range(9)]), 3)) == 3
    assert read_exam(f"[{HOSTILE}]", 3) == [] and not Path("/tmp/pwned-by-a-reply").exists()


ROW = {
    "prompt_id": "p",
    "prompt": [{"role": "user", "content": "Abu?"}],
    "completion": [{"role": "assistant", "content": "red fox"}],
    "source": "one",
    "index": 0,
    "score": 1.0,
    "unfinished": [],
}


@pytest.mark.parametrize(
    ("asked", "right", "kind"),
    [
        (3, 3, "need_and_have_fact"),
        (3, 2, "need_and_have_fact"),
        (3, 1, "need_and_have_no_fact"),
        (2, 1, "need_and_have_no_fact"),
        (1, 1, "need_and_have_fact"),
        (0, 0, "unparsed"),
    ],
)
def test_more_than_the_share_has_to_be_right(asked: int, right: int, kind: str) -> None:
    questions = [ExamQuestion("q", ("a", "b", "c", "d"), 0)] * asked
    assert Exam(ROW, FactNeed(True, []), "x", questions, right).kind(0.6) == kind
    assert Exam(ROW, FactNeed(False, []), "", questions, right).kind(0.6) == "no_need_fact"
    assert Exam(ROW, None).kind(0.6) == "unparsed"


def test_each_treatment_changes_what_it_says_and_nothing_else() -> None:
    failed = Exam(
        ROW, FactNeed(True, []), "A passage.", [ExamQuestion("q", ("a", "b", "c", "d"), 0)], 0
    )
    row = treated(failed, Consistency(judge="j", treatment="open_book"))
    assert row["prompt"] == [{"role": "user", "content": "A passage.\nAbu?"}]
    assert row["completion"] == ROW["completion"]
    row = treated(failed, Consistency(judge="j", treatment="refusal"))
    assert row["prompt"] == ROW["prompt"] and row["completion"][0]["content"] == REFUSAL
    dropped = treated(failed, Consistency(judge="j"))
    assert isinstance(dropped, Drop) and dropped.reason == "facts_unknown"
    unread = treated(Exam(ROW, None), Consistency(judge="j", unparsed="discard"))
    assert isinstance(unread, Drop) and unread.reason == "no_exam"


def maker(*, order: int = 0, garbage: str = "", no_facts: str = "") -> Callable[..., Reply]:
    """A maker of exams that knows the facts, and shuffles the options by `order`."""

    def reply(_: int, seen: Seen) -> Reply:
        text = seen.body["messages"][0]["content"]
        place = re.search("|".join(PLACES), text)[0]
        if "needs_facts" in text:
            if place == garbage:
                return chat_response("I would say so.")
            return chat_response(json.dumps({"needs_facts": place != no_facts, "queries": [place]}))
        if "Write one short passage" in text:
            return chat_response(f"Ask {place}? and hear {FACTS[place]}.")
        draw = random.Random(f"{place} {order}")
        questions = []
        for _ in range(3):
            wrong = draw.sample([answer for answer in ANSWERS if answer != FACTS[place]], 3)
            options = draw.sample([*wrong, FACTS[place]], 4)
            letter = "ABCD"[options.index(FACTS[place])]
            questions.append({"question": f"{place}?", "options": options, "answer": letter})
        return chat_response("```json\n" + json.dumps(questions) + "\n```")

    return reply


@pytest.fixture
def examined(
    write_recipe: Callable[..., Path],
    serve: Callable[..., CompletionServer],
    tmp_path: Path,
) -> Callable[..., tuple[dict[str, str], dict[str, Any], CompletionServer]]:
    """Runs the stage on one row per fact; gives the class of each kept place, and the manifest."""

    def run(
        target: Path, script: Callable[..., Reply], *, name: str = "test", **settings: Any
    ) -> tuple[dict[str, str], dict[str, Any], CompletionServer]:
        server = serve(script)
        path = write_recipe(
            run=name,
            target={"model": str(target), "dtype": "float32"},
            judges={"maker": {"model": "m", "engine": {"endpoints": [server.url]}}},
            consistency={"judge": "maker", "answer_by": "options", **settings},
        )
        recipe = load_recipe(path, [f"runs={tmp_path / name}"])
        pipeline = Pipeline(recipe)
        folder = StageFolder(pipeline.folder("build/sft"), pipeline.key("build/sft"))
        folder.open()
        rows = [
            {
                **ROW,
                "prompt_id": place,
                "prompt": [{"role": "user", "content": f"{place}?"}],
                "completion": [{"role": "assistant", "content": FACTS[place]}],
            }
            for place in PLACES
        ]
        folder.write_table(rows, SFT_ROWS)
        folder.finish()
        check_consistency(recipe)
        made = pipeline.finished("consistency")
        found = {row["prompt_id"]: row["knowledge"] for row in read_rows(made)}
        return found, read_manifest(made), server

    return run


@pytest.mark.slow
def test_the_exam_finds_what_the_target_knows_and_every_row_has_a_class(
    examined: Callable[..., Any], experts_folder: Path, tmp_path: Path
) -> None:
    """Planted: the target knows half. Controls: the other half's expert has the reverse, the
    order of the options changes nothing, a model without training guesses."""
    script = maker(garbage=PLACES[5], no_facts=PLACES[4])
    first, facts, server = examined(experts_folder / "first", script, treatment="refusal")
    assert first[PLACES[5]] == "unparsed" and first[PLACES[4]] == "no_need_fact"
    assert sum(facts["classes"].values()) == len(PLACES) == len(first)
    known = {place for place, kind in first.items() if kind == "need_and_have_fact"}
    assert set(HALVES[0][:4]) <= known and len(known & set(HALVES[1])) <= 3
    assert len([s for s in server.seen if "needs_facts" in str(s.body)]) == len(PLACES) + 1

    second, _, _ = examined(
        experts_folder / "second", maker(order=1), name="second", treatment="open_book"
    )
    known = {place for place, kind in second.items() if kind == "need_and_have_fact"}
    assert set(HALVES[1]) <= known and len(known & set(HALVES[0])) <= 3
    again, _, _ = examined(
        experts_folder / "second", maker(order=2), name="again", treatment="open_book"
    )
    assert {place for place in HALVES[1] if again[place] == "need_and_have_fact"} == set(HALVES[1])

    from data_construction.exams.sitting import Examinee

    draw = random.Random(0)
    letters = [(f"q{n}", tuple(draw.sample("abcdefghij", 4)), draw.randrange(4)) for n in range(48)]
    untrained = save_tiny(tmp_path / "untrained")
    recipe = load_recipe(tmp_path / "recipe.yaml", [f"target.model={untrained}"])
    questions = [ExamQuestion(*one) for one in letters]
    given = Examinee(recipe, Consistency(judge="maker", max_length=200)).answers(questions)
    right = sum(one.right == answer for one, answer in zip(questions, given, strict=True))
    assert right / len(questions) == pytest.approx(0.25, abs=0.15)


def test_letters_are_compared_behind_the_examples_that_fit() -> None:
    from data_construction.exams.sitting import EXAMPLES, letter_ids

    tokenizer = tiny_tokenizer()
    question = ExamQuestion("Which?", ("w", "x", "y", "z"), 2)
    whole = letter_ids(tokenizer, question, 5000)
    text = tokenizer.decode(whole["prompt_ids"])
    assert [tokenizer.decode(whole[f"{x}_ids"]) for x in "ABCD"] == list("ABCD")
    assert text.count("Question:") == 6 and text.endswith("D. z\nAnswer: ")
    short = tokenizer.decode(letter_ids(tokenizer, question, 300)["prompt_ids"])
    assert 1 <= short.count("Question:") < 6 and EXAMPLES[0][0] not in short


def test_a_maker_that_is_no_judge_is_refused_and_the_exam_has_a_price(
    write_recipe: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match='consistency.judge: no judge "maker"'):
        load_recipe(write_recipe(consistency={"judge": "maker"}))
    extra = """
    judges:
      maker:
        model: m
        engine: {endpoints: ["http://h:1/v1"], input_price: 1.0, output_price: 2.0}
    consistency: {judge: maker}
    """
    pipeline = pipeline_of(tmp_path, *KNOWN, extra=extra)
    assert pipeline["sft"].inputs == ("consistency",)
    found = prices(pipeline)["consistency"]
    assert found.dollars > 0 and found.gpu_hours > 0 and "need, passage, exam" in str(found.terms)

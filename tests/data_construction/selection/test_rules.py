"""The rules of a recipe per domain: which row each table makes of a prompt, and of which window."""

from typing import Any

import pytest

from data_construction.selection.rules import TableRules
from data_construction.selection.select import Response
from wrpo.pipeline.tables import Drop, Row
from wrpo.recipe.build import Build


def prompt(key: str, domain: str) -> Row:
    return {
        "prompt_id": key,
        "domain": domain,
        "messages": [{"role": "user", "content": f"prompt {key}"}],
    }


def scored(source: str, *scores: float, right: str = "") -> list[Response]:
    """Responses of one source; `right` says + or - of each, where a verifier has looked."""
    correct = [{"+": True, "-": False}.get(mark) for mark in right.ljust(len(scores))]
    return [
        Response(source, n, f"{source} says {n}", score, correct[n])
        for n, score in enumerate(scores)
    ]


def rules(
    build: dict[str, Any], prompts: list[Row], responses: dict[str, list[Response]]
) -> TableRules:
    by_id = {row["prompt_id"]: row for row in prompts}
    return TableRules(Build.model_validate(build), by_id, responses, responses)


def reason(made: Row | Drop) -> str:
    assert isinstance(made, Drop), made
    return made.reason


def gap(made: Row | Drop) -> float:
    assert not isinstance(made, Drop), made
    return made["chosen_score"] - made["rejected_score"]


def test_each_domain_has_its_own_rules() -> None:
    prompts = [prompt("t", "talk"), prompt("m", "maths"), prompt("c", "code")]
    responses = scored("a", 0.5, 0.45, 0.9, right="+--")
    build = {"domains": {"maths": {"verifier": "v"}, "code": {"verifier": "v", "window": False}}}
    made = rules(build, prompts, {row["prompt_id"]: responses for row in prompts})
    talk, maths, code = prompts
    assert made.sft_row(talk)["score"] == 0.9
    assert made.sft_row(maths)["score"] == made.sft_row(code)["score"] == 0.5
    assert reason(made.pair_row(talk)) == "no_pair_in_window"
    assert gap(made.pair_row(maths)) == pytest.approx(0.05)
    assert gap(made.pair_row(code)) == pytest.approx(0.05)


def test_a_window_that_is_lifted_lets_every_right_and_wrong_pair_through() -> None:
    responses = {"p": scored("a", 0.2, 0.9, right="+-")}
    for window, expected in ((True, "no_pair_in_window"), (False, None)):
        build = {"domains": {"code": {"verifier": "v", "window": window}}}
        made = rules(build, [prompt("p", "code")], responses).pair_row(prompt("p", "code"))
        assert reason(made) == expected if expected else gap(made) == pytest.approx(-0.7)


def test_where_sft_needs_a_pair_prompts_outside_the_window_give_neither() -> None:
    prompts = [prompt("in", "talk"), prompt("out", "talk")]
    responses = {"in": scored("a", 0.5, 0.45), "out": scored("a", 0.9, 0.1)}
    free = rules({}, prompts, responses)
    strict = rules({"domains": {"talk": {"sft_needs_pair": True}}}, prompts, responses)
    assert [free.sft_row(row)["score"] for row in prompts] == [0.5, 0.9]
    assert strict.sft_row(prompts[0])["score"] == 0.5
    assert reason(strict.sft_row(prompts[1])) == "no_pair_in_window"
    assert gap(strict.pair_row(prompts[0])) == pytest.approx(0.05)
    assert reason(strict.pair_row(prompts[1])) == "no_pair_in_window"


def test_quantiles_are_those_of_the_pairs_that_a_domain_could_give() -> None:
    """In a verified domain these are right and wrong responses, whatever else scores higher."""
    prompts = [prompt(f"p{n}", "maths") for n in range(5)]
    responses = {f"p{n}": scored("a", 0.5 + n, 0.5, 50.0, right="+- ") for n in range(5)}
    build = {"pairs": {"quantiles": [0.25, 0.75]}, "domains": {"maths": {"verifier": "v"}}}
    made = rules(build, prompts, responses)
    kept = [made.pair_row(row) for row in prompts]
    assert [isinstance(row, Drop) for row in kept] == [True, False, False, False, True]


def test_a_prompt_that_nobody_answered_says_so_in_every_table() -> None:
    made = rules({"domains": {"maths": {"verifier": "v"}}}, [prompt("p", "maths")], {})
    row = prompt("p", "maths")
    reasons = [reason(make(row)) for make in (made.sft_row, made.pair_row, made.triple_row)]
    assert reasons == ["no_source_response", "not_both_right_and_wrong", "no_source_response"]

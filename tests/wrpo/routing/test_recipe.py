"""A router in a recipe: which prompts a source gets, in its key and in the plan."""

import json
from pathlib import Path

import pytest

from data_construction.sampling.prompt_parts import PromptParts, sent_to
from tests.support.recipe_files import tiny_recipe
from tests.wrpo.plan.test_estimate import KNOWN, prices
from wrpo.errors import MissingInputError, RecipeError
from wrpo.ids import prompt_id
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import PROMPTS, SCORES, Row, part_name, write_parquet
from wrpo.routing.__main__ import learn_router
from wrpo.routing.router import Router, features


def asked(text: str) -> Row:
    messages = [{"role": "user", "content": text}]
    return {"prompt_id": prompt_id(messages), "messages": messages, "domain": "d", "split": "sft"}


def router_file(folder: Path, *sources: str) -> Path:
    """Sums to the first source, all else to the second."""
    sums = set(features(asked("sum")["messages"])) - set(features([]))
    weights = {bucket: [2.0, 0.0] for bucket in sums} | {features([])[0]: [0.0, 1.0]}
    shares = [{sources[0]: 0.25, sources[1]: 0.75}, dict.fromkeys(sources, 1.0)]
    path = folder / "router.json"
    Router(sources, weights, shares).save(path)
    return path


def test_prompts_go_to_the_sources_that_the_router_chooses(tmp_path: Path) -> None:
    rows = [asked(f"{kind} {n}") for n in range(4) for kind in ("sum", "rhyme")]
    folder = tmp_path / "prompts"
    folder.mkdir()
    write_parquet(folder / part_name(0), rows[:5], PROMPTS)
    write_parquet(folder / part_name(1), rows[5:], PROMPTS)
    path = router_file(tmp_path, "letters", "numbers")
    found: dict[str, set[str]] = {}
    for source in ("letters", "numbers"):
        recipe = tiny_recipe(tmp_path, f"sample.router={{file: {path}}}")
        parts = PromptParts(folder, 3, keep=sent_to(recipe, source))
        found[source] = {
            row["messages"][0]["content"] for part in range(len(parts)) for row in parts.read(part)
        }
        assert parts.total == len(found[source]) == 4 and parts.domains() == {"d": 4}
    assert found["letters"] == {f"sum {n}" for n in range(4)}
    assert found["numbers"] == {f"rhyme {n}" for n in range(4)}
    both = tiny_recipe(tmp_path, f"sample.router={{file: {path}, per_prompt: 2}}")
    assert PromptParts(folder, 3, keep=sent_to(both, "letters")).total == 8
    assert sent_to(both, "target") is None


def test_the_file_is_in_the_key_of_sources_and_only_of_them(tmp_path: Path) -> None:
    path = router_file(tmp_path, "letters", "numbers")
    plain = Pipeline(tiny_recipe(tmp_path))
    routed = Pipeline(tiny_recipe(tmp_path, f"sample.router={{file: {path}}}"))
    key = routed.key("sample/letters")
    assert key == {**plain.key("sample/letters"), "router": key["router"]}
    assert key["router"][1] == 1
    keys = [one.key("sample/target") for one in (plain, routed)]
    assert keys[0]["sampling"] == keys[1]["sampling"] and "router" not in keys[1]
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "note": "another"}))
    again = Pipeline(tiny_recipe(tmp_path, f"sample.router={{file: {path}}}"))
    assert again.key("sample/letters") != key


def test_the_plan_prices_what_is_routed(tmp_path: Path) -> None:
    path = router_file(tmp_path, "letters", "numbers")
    whole = prices(Pipeline(tiny_recipe(tmp_path, *KNOWN)))
    routed = prices(Pipeline(tiny_recipe(tmp_path, *KNOWN, f"sample.router={{file: {path}}}")))
    for source, share in (("letters", 0.25), ("numbers", 0.75)):
        for stage in (f"sample/{source}", f"score/{source}"):
            tokens = whole[stage].tokens
            assert tokens and routed[stage].tokens == pytest.approx(share * tokens)
    assert routed["sample/target"] == whole["sample/target"]


def test_routers_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = router_file(tmp_path, "letters", "others")
    recipe = tiny_recipe(tmp_path, f"sample.router={{file: {path}}}")
    with pytest.raises(RecipeError, match="knows letters, others and not numbers"):
        sent_to(recipe, "numbers")
    with pytest.raises(MissingInputError, match=r"nowhere\.json"):
        sent_to(tiny_recipe(tmp_path, "sample.router.file=nowhere.json"), "letters")


def test_the_command_learns_from_a_run_and_its_file_fits_a_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Prompts and scores as stages leave them; one prompt lacks a source and is left out."""
    caplog.set_level("INFO")
    rows = [asked(f"{kind} {n}") for n in range(60) for kind in ("sum", "rhyme")]
    tables: dict[str, list[Row]] = {"prompts": rows, "score/letters": [], "score/numbers": []}
    for place, row in enumerate(rows):
        for source, best in (("letters", "sum"), ("numbers", "rhyme")):
            if source == "letters" and place == 7:
                continue
            right = row["messages"][0]["content"].startswith(best)
            head = {"prompt_id": row["prompt_id"], "source": source, "index": 0, "rewards": []}
            tables[f"score/{source}"].append({**head, "score": float(right)})
            tables[f"score/{source}"].append({**head, "index": 1, "score": float(right) - 0.5})
    for name, table in tables.items():
        (tmp_path / name).mkdir(parents=True)
        schema = PROMPTS if name == "prompts" else SCORES
        write_parquet(tmp_path / name / part_name(0), table, schema)
    monkeypatch.setattr(Pipeline, "finished", lambda self, name: tmp_path / name)
    path = tmp_path / "router.json"
    learn_router(tiny_recipe(tmp_path), path)
    content = json.loads(path.read_text())
    assert content["learned_from"] == 119 and content["measured"]["router"] == 1.0
    assert content["measured"]["gain"] > 0.3 > content["measured"]["shuffled"]
    assert "24 held-out prompts: mean best score 1.0000 routed" in caplog.text
    keep = sent_to(tiny_recipe(tmp_path, f"sample.router={{file: {path}}}"), "letters")
    assert keep and keep([asked("sum 99")["messages"], asked("rhyme 99")["messages"]]) == [
        True,
        False,
    ]

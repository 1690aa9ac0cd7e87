from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from data_construction.build import _ready_tables, build_table
from data_construction.prompts import make_prompts
from tests.data_construction.sampled import prompt_ids, write_responses, write_scores
from wrpo.chat.template import template_hash
from wrpo.chat.thoughts import THINK, with_thought
from wrpo.chat.tokenizer import load_tokenizer
from wrpo.errors import DataError, MissingInputError, ModelError, RecipeError, StageError
from wrpo.objectives.sft import SFTSettings
from wrpo.pipeline.folder import StageFolder, read_manifest
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import read_parquet, read_rows
from wrpo.recipe import Recipe, load_recipe, preference
from wrpo.recipe.revise import Revision
from wrpo.recipe.thinking import Thinking
from wrpo.rows.columns import TRIPLE_RESPONSES
from wrpo.train_sft import _refuse_rows_for_another_target, sample_of


@pytest.fixture
def built_recipe(write_recipe: Callable[..., Path]) -> Recipe:
    """Two scored sources, a target with three scored responses, and an arm that trains on pairs."""
    recipe = load_recipe(
        write_recipe(
            prompts=20,
            build={"min_gap": 0.0, "pairs": {"min_gap": 0.1, "max_gap": 0.5}},
            arms={"pairs-dpo": {"objective": "dpo", "data": "pairs"}},
        )
    )
    make_prompts(recipe)
    ids = prompt_ids(recipe)
    write_responses(recipe, "one", {key: ["one a", "one b"] for key in ids})
    write_scores(recipe, "one", {key: [0.1, 0.4] for key in ids})
    write_responses(recipe, "two", {key: ["two a", "two b"] for key in ids})
    write_scores(recipe, "two", {key: [0.9, 0.2] for key in ids})
    return recipe


@pytest.fixture
def tokenizer_of_target(built_recipe: Recipe) -> PreTrainedTokenizerBase:
    return load_tokenizer(built_recipe.target.model)


def finish_target(recipe: Recipe, scores: list[float]) -> None:
    pipeline = Pipeline(recipe)
    folder = StageFolder(pipeline.folder("sft"), pipeline.key("sft"))
    folder.open()
    folder.finish()
    ids = prompt_ids(recipe, "preference")
    texts = [f"target {n}" for n in range(len(scores))]
    write_responses(recipe, "target", dict.fromkeys(ids, texts))
    write_scores(recipe, "target", dict.fromkeys(ids, scores))


def test_sft_rows_are_the_best_answers_of_the_sft_split(built_recipe) -> None:
    build_table(built_recipe, "sft")
    rows = read_rows(Pipeline(built_recipe).finished("build/sft"))
    assert {row["prompt_id"] for row in rows} == set(prompt_ids(built_recipe, "sft"))
    assert {(row["source"], row["index"], row["score"]) for row in rows} == {("two", 0, 0.9)}
    assert rows[0]["completion"] == [{"role": "assistant", "content": "two a"}]


def test_triples_hold_all_three_answers_with_provenance(built_recipe) -> None:
    finish_target(built_recipe, [0.5, 0.3, 0.8])
    build_table(built_recipe, "triples")
    rows = read_rows(Pipeline(built_recipe).finished("build/triples"))
    assert {row["prompt_id"] for row in rows} == set(prompt_ids(built_recipe, "preference"))
    row = rows[0]
    assert row["prompt"][0]["role"] == "user"
    texts = {n: row[n][0]["content"] for n in ("source_chosen", "chosen", "rejected")}
    assert texts == {"source_chosen": "two a", "chosen": "target 2", "rejected": "target 1"}
    assert (row["source_chosen_source"], row["source_chosen_score"]) == ("two", 0.9)
    assert (row["chosen_index"], row["rejected_index"]) == (2, 1)
    assert len({row["triple_id"] for row in rows}) == len(rows)


def test_prompts_without_a_row_are_dropped_with_reason(built_recipe) -> None:
    finish_target(built_recipe, [0.5, 0.5, 0.5])
    with pytest.raises(DataError, match="gap_too_small"):
        build_table(built_recipe, "triples")


def test_pairs_come_from_one_source_inside_the_window(built_recipe) -> None:
    build_table(built_recipe, "pairs")
    rows = read_rows(Pipeline(built_recipe).finished("build/pairs"))
    assert {(r["chosen_source"], r["rejected_source"]) for r in rows} == {("one", "one")}
    assert {(r["chosen_score"], r["rejected_score"]) for r in rows} == {(0.4, 0.1)}


def test_in_a_verified_domain_the_correct_answer_is_chosen(built_recipe) -> None:
    rules = {"verifier": "style", "window": False}
    build = built_recipe.build.model_validate({"domains": {"k0": rules}})
    recipe = built_recipe.model_copy(update={"build": build})
    ids = prompt_ids(recipe)
    for path in Pipeline(recipe).folder("score/two").iterdir():
        path.unlink()
    write_scores(recipe, "two", {key: [0.9, 0.2] for key in ids}, rewards={"style": [0.0, 1.0]})
    rows = read_rows(Pipeline(recipe).finished("prompts"))
    verified = {row["prompt_id"] for row in rows if row["domain"] == "k0"}
    for table, column in (("sft", "score"), ("pairs", "chosen_score")):
        build_table(recipe, table)
        made = read_rows(Pipeline(recipe).finished(f"build/{table}"))
        right = {row[column] for row in made if row["prompt_id"] in verified}
        assert right == {0.2}, table


def test_a_quantile_window_follows_the_gaps_of_the_run(built_recipe) -> None:
    pairs = {"pairs": {"quantiles": [0.6, 1.0]}}
    build = built_recipe.build.model_validate(pairs)
    recipe = built_recipe.model_copy(update={"build": build})
    build_table(recipe, "pairs")
    rows = read_rows(Pipeline(recipe).finished("build/pairs"))
    # gaps are 0.3 and 0.7, half of them each
    assert {row["chosen_source"] for row in rows} == {"two"}


def truncated(recipe: Recipe, **limits: object) -> Recipe:
    truncation = recipe.truncation.model_validate(limits)
    return recipe.model_copy(update={"truncation": truncation})


def test_the_manifest_counts_what_truncation_cuts(
    built_recipe, tokenizer_of_target, caplog
) -> None:
    recipe = truncated(built_recipe, max_prompt_length=20, max_response_length=6)
    pipeline = Pipeline(recipe)
    build_table(recipe, "pairs")
    rows = read_rows(pipeline.finished("build/pairs"))
    counts = read_manifest(pipeline.folder("build/pairs"))["truncation"]
    assert counts["limits"]["max_response_length"] == 6
    assert counts["template"] == template_hash(tokenizer_of_target)
    assert counts["rows"] == counts["rows_cut"] == counts["cut"]["prompt"] == len(rows)
    # "one b" is five letters and an end of turn
    assert (counts["cut"]["chosen"], counts["cut"]["rejected"], counts["dropped"]) == (0, 0, 0)
    assert f"{len(rows)} of {len(rows)} rows are cut" in caplog.text


def test_the_counts_name_the_answer_that_is_cut(built_recipe) -> None:
    finish_target(built_recipe, [0.5, 0.3, 0.8])
    ids = prompt_ids(built_recipe, "preference")
    for stage in ("sample/two", "score/two"):
        for path in Pipeline(built_recipe).folder(stage).iterdir():
            path.unlink()
    write_responses(built_recipe, "two", {ids[0]: ["a much longer response"], ids[1]: ["short"]})
    write_scores(built_recipe, "two", {ids[0]: [0.9], ids[1]: [0.9]})
    recipe = truncated(built_recipe, max_response_length=15)
    build_table(recipe, "triples")
    counts = read_manifest(Pipeline(recipe).folder("build/triples"))["truncation"]
    assert counts["cut"] == {"prompt": 0, "source_chosen": 1, "chosen": 0, "rejected": 0}


def test_prompts_that_fill_max_length_are_counted_and_stay_in_the_table(
    built_recipe, caplog
) -> None:
    recipe = truncated(built_recipe, max_length=8)
    build_table(recipe, "pairs")
    folder = Pipeline(recipe).finished("build/pairs")
    counts = read_manifest(folder)["truncation"]
    assert counts["dropped"] == len(read_rows(folder)) > 0
    assert "prompt alone fills max_length=8" in caplog.text


def test_rows_that_fit_give_no_warning(built_recipe, caplog) -> None:
    build_table(built_recipe, "pairs")
    counts = read_manifest(Pipeline(built_recipe).folder("build/pairs"))["truncation"]
    assert (counts["rows_cut"], counts["dropped"]) == (0, 0)
    assert "rows are" not in caplog.text


def test_a_target_without_tokenizer_is_told_before_anything_is_written(
    built_recipe, tmp_path
) -> None:
    target = built_recipe.target.model_copy(update={"model": str(tmp_path / "nowhere")})
    recipe = built_recipe.model_copy(update={"target": target})
    with pytest.raises(ModelError, match="build/pairs renders rows for the target.*nowhere"):
        build_table(recipe, "pairs")
    assert not list(Pipeline(recipe).folder("build/pairs").glob("*.parquet"))


def test_rows_are_joined_by_id_and_unscored_answers_are_left_out(built_recipe) -> None:
    pipeline = Pipeline(built_recipe)
    ids = prompt_ids(built_recipe)
    for path in pipeline.folder("score/two").iterdir():
        path.unlink()
    write_scores(built_recipe, "two", {key: [0.9] for key in ids[: len(ids) // 2]})
    build_table(built_recipe, "sft")
    winners = {row["prompt_id"]: row["source"] for row in read_rows(pipeline.finished("build/sft"))}
    scored = set(ids[: len(ids) // 2])
    assert winners == {key: "two" if key in scored else "one" for key in winners}


def test_without_a_table_named_the_ready_ones_are_built(built_recipe) -> None:
    _ready_tables(built_recipe)
    states = {
        table: Pipeline(built_recipe).state(f"build/{table}")
        for table in ("sft", "pairs", "triples")
    }
    assert states == {"sft": "done", "pairs": "done", "triples": "missing"}


def test_building_without_scores_names_the_command(write_recipe) -> None:
    recipe = load_recipe(write_recipe())
    make_prompts(recipe)
    with pytest.raises(MissingInputError, match="data_construction.score --source one"):
        _ready_tables(recipe)


def test_dropped_prompts_are_listed(built_recipe) -> None:
    finish_target(built_recipe, [0.5, 0.3])
    ids = prompt_ids(built_recipe, "preference")
    for path in Pipeline(built_recipe).folder("score/target").iterdir():
        path.unlink()
    write_scores(
        built_recipe, "target", {key: [0.5, 0.3] if key != ids[0] else [0.5] for key in ids}
    )
    build_table(built_recipe, "triples")
    dropped = read_parquet(Pipeline(built_recipe).finished("build/triples") / "dropped.parquet")
    assert [(row["prompt_id"], row["reason"]) for row in dropped] == [
        (ids[0], "too_few_target_responses")
    ]


def with_cut(recipe: Recipe, use: str) -> Recipe:
    """The best response of every source, and the best and the worst of the target, were cut."""
    build = recipe.build.model_copy(update={"unfinished": use})
    recipe = recipe.model_copy(update={"build": build})
    finish_target(recipe, [0.5, 0.3, 0.8])
    ids = prompt_ids(recipe)
    write_responses(recipe, "one", {key: ["one a", "one b"] for key in ids}, cut=[1])
    write_responses(recipe, "two", {key: ["two a", "two b"] for key in ids}, cut=[0])
    own = prompt_ids(recipe, "preference")
    texts = [f"target {n}" for n in range(3)]
    write_responses(recipe, "target", dict.fromkeys(own, texts), cut=[1, 2])
    return recipe


@pytest.mark.parametrize(
    ("use", "sft", "triple", "unfinished"),
    [
        ("rejected", "two b", ("two b", "target 0", "target 1"), ["rejected"]),
        ("any", "two a", ("two a", "target 2", "target 1"), TRIPLE_RESPONSES),
    ],
)
def test_responses_that_max_tokens_cut_are_used_as_the_recipe_says(
    use, sft, triple, unfinished, built_recipe: Recipe
) -> None:
    recipe = with_cut(built_recipe, use)
    for table in ("sft", "triples"):
        build_table(recipe, table)
    row = read_rows(Pipeline(recipe).finished("build/sft"))[0]
    assert row["completion"][0]["content"] == sft
    assert row["unfinished"] == ([] if use == "rejected" else ["completion"])
    row = read_rows(Pipeline(recipe).finished("build/triples"))[0]
    assert tuple(row[name][0]["content"] for name in TRIPLE_RESPONSES) == triple
    assert sorted(row["unfinished"]) == sorted(unfinished)


def test_responses_that_max_tokens_cut_can_be_left_out(built_recipe: Recipe) -> None:
    recipe = with_cut(built_recipe, "never")
    with pytest.raises(DataError, match="too_few_target_responses"):
        build_table(recipe, "triples")


def test_the_responses_that_max_tokens_cut_are_counted(
    built_recipe: Recipe, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    build_table(with_cut(built_recipe, "rejected"), "sft")
    assert "build/sft: 8 of 16 responses are cut at max_tokens" in caplog.text
    assert "build.unfinished" in caplog.text


def with_thoughts(recipe: Recipe, **thinking: Any) -> Recipe:
    """Sources and target have thoughts, each in its own tags."""
    target = recipe.target.model_copy(update={"thinking": Thinking(**thinking)})
    recipe = recipe.model_copy(update={"target": target})
    finish_target(recipe, [0.5, 0.3, 0.8])
    for source, keys, tags in (
        ("one", prompt_ids(recipe), THINK),
        ("two", prompt_ids(recipe), THINK),
        ("target", prompt_ids(recipe, "preference"), target.thinking.tags),
    ):
        texts = [with_thought("hm", f"{source} {index}", tags) for index in range(3)]
        write_responses(recipe, source, dict.fromkeys(keys, texts), tags=tags)
        write_scores(recipe, source, {key: [0.5, 0.3, 0.8] for key in keys})
    return recipe


@pytest.mark.parametrize("thinking", [{}, {"thinks": False}])
def test_a_target_that_does_not_think_is_trained_on_answers(
    thinking: dict[str, Any], built_recipe: Recipe
) -> None:
    recipe = with_thoughts(built_recipe, **thinking)
    for table in ("sft", "triples"):
        build_table(recipe, table)
    row = read_rows(Pipeline(recipe).finished("build/sft"))[0]
    assert row["completion"][0]["content"] == "one 2"
    row = read_rows(Pipeline(recipe).finished("build/triples"))[0]
    texts = [row[name][0]["content"] for name in TRIPLE_RESPONSES]
    assert texts == ["one 2", "target 2", "target 1"]
    manifest = read_manifest(Pipeline(recipe).finished("build/sft"))
    assert manifest is not None and manifest["thoughts"]["kept"] is False


def test_a_target_that_thinks_is_trained_on_thoughts_in_its_own_tags(built_recipe: Recipe) -> None:
    tags = ("<reason>", "</reason>")
    recipe = with_thoughts(built_recipe, thinks=True, tags=tags)
    scores = {key: [0.5, 0.3, 0.9] for key in prompt_ids(recipe)}
    write_scores(recipe, "two", scores)
    build_table(recipe, "sft")
    row = read_rows(Pipeline(recipe).finished("build/sft"))[0]
    assert row["completion"][0]["content"] == with_thought("hm", "two 2", tags)
    other = recipe.target.model_copy(update={"thinking": Thinking(thinks=False)})
    with pytest.raises(StageError, match="built for a target that thinks, and .* does not"):
        _refuse_rows_for_another_target(
            recipe.model_copy(update={"target": other}), Pipeline(recipe).finished("build/sft")
        )


def with_arm(recipe: Recipe, data: str, objective: str, **build: Any) -> Recipe:
    arms = {"own": {"objective": objective, "data": data}}
    settings = recipe.build.model_validate(build)
    return recipe.model_copy(update={"arms": arms, "build": settings})


def test_delta_pairs_need_names_and_no_scores(built_recipe: Recipe) -> None:
    recipe = with_arm(built_recipe, "delta", "dpo", delta={"strong": "one", "weak": "two"})
    for source in ("one", "two"):
        for path in Pipeline(recipe).folder(f"score/{source}").iterdir():
            path.unlink()
    build_table(recipe, "delta")
    rows = read_rows(Pipeline(recipe).finished("build/delta"))
    assert {row["prompt_id"] for row in rows} == set(prompt_ids(recipe, "preference"))
    assert {(row["chosen_source"], row["rejected_source"]) for row in rows} == {("one", "two")}
    assert {(row["chosen_score"], row["rejected_score"]) for row in rows} == {(None, None)}
    assert Pipeline(recipe)["own"].inputs == ("build/delta", "sft", "logprobs/sft/delta")


def test_source_pairs_are_the_best_and_worst_of_every_source(built_recipe: Recipe) -> None:
    recipe = with_arm(built_recipe, "source_pairs", "fuserl")
    build_table(recipe, "source_pairs")
    rows = read_rows(Pipeline(recipe).finished("build/source_pairs"))
    scores: dict[tuple[str, str], list[float]] = {}
    for source in ("one", "two"):
        for row in read_rows(Pipeline(recipe).finished(f"score/{source}")):
            scores.setdefault((row["prompt_id"], source), []).append(row["score"])
    assert {row["chosen_source"] for row in rows} == {"one", "two"}
    for row in rows:
        own = scores[row["prompt_id"], row["chosen_source"]]
        assert row["rejected_source"] == row["chosen_source"]
        assert (row["chosen_score"], row["rejected_score"]) == (max(own), min(own))
        assert row["chosen_score"] > row["rejected_score"]
    assert Pipeline(recipe)["own"].inputs[0] == "build/source_pairs"


def test_votes_for_y_ws_are_in_the_key_of_triples_alone(built_recipe: Recipe) -> None:
    votes = built_recipe.build.model_copy(update={"source_by": "votes"})
    usual, voted = (
        Pipeline(recipe)
        for recipe in (built_recipe, built_recipe.model_copy(update={"build": votes}))
    )
    assert voted.key("build/triples") == {**usual.key("build/triples"), "source_by": "votes"}
    assert voted.key("build/sft") == usual.key("build/sft")


def test_delta_without_names_says_what_to_write(built_recipe: Recipe) -> None:
    with pytest.raises(RecipeError, match="build.delta to {strong: NAME, weak: NAME}"):
        Pipeline(with_arm(built_recipe, "delta", "dpo"))


@pytest.mark.parametrize(
    ("delta", "message"),
    [
        ({"strong": "one", "weak": "tow"}, 'build.delta.weak: no source "tow"; known: one, two'),
        ({"strong": "one", "weak": "one"}, "strong and weak are both one"),
    ],
)
def test_names_of_delta_are_checked(delta, message, write_recipe: Callable[..., Path]) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(write_recipe(build={"delta": delta}))


def test_rejection_samples_are_sft_rows_of_the_target(built_recipe: Recipe) -> None:
    rules = {"keep": 2, "min_score": 0.5}
    recipe = with_arm(built_recipe, "rejection", "sft", rejection=rules)
    finish_target(recipe, [0.5, 0.3, 0.8])
    build_table(recipe, "rejection")
    rows = read_rows(Pipeline(recipe).finished("build/rejection"))
    assert [row["index"] for row in rows[:2]] == [2, 0]
    assert len(rows) == 2 * len(prompt_ids(recipe, "preference"))
    settings = preference(recipe, "own")
    assert isinstance(settings, SFTSettings)
    assert sample_of(rows[0], settings.trained_on(rows[0])).response == "target 2"


def test_seft_and_its_controls_are_rows_of_the_same_prompts(built_recipe: Recipe) -> None:
    """Revisions, the drafts that they were made of, and the reference answers; sources stay out."""
    of = {"seft": "revised/target", "own-drafts": "target", "gold": "reference_answer"}
    recipe = built_recipe.model_copy(
        update={
            "arms": {
                arm: {"objective": "sft", "data": "responses", "rows_of": [name]}
                for arm, name in of.items()
            },
            "revise": {"target": Revision(by="one")},
        }
    )
    finish_target(recipe, [0.5, 0.3])
    ids = prompt_ids(recipe, "preference")
    revised = ["better", "target 1"]  # the second draft is kept
    write_responses(recipe, "revised/target", dict.fromkeys(ids, revised))
    write_scores(recipe, "revised/target", {key: [0.9, 0.3] for key in ids})
    build_table(recipe, "responses")
    rows = read_rows(Pipeline(recipe).finished("build/responses"))
    assert Pipeline(recipe)["build/responses"].inputs == (
        "prompts",
        "score/revised/target",
        "score/target",
    )
    gold = {
        row["prompt_id"]: row["reference_answer"]
        for row in read_rows(Pipeline(recipe).finished("prompts"))
    }
    for arm, name in of.items():
        own = preference(recipe, arm).rows_to_train(rows)
        texts: dict[str, list[str]] = {key: [] for key in ids}
        for row in own:
            texts[row["prompt_id"]].append(row["completion"][0]["content"])
        expected = {"revised/target": revised, "target": ["target 0", "target 1"]}
        assert texts == {key: expected.get(name, [gold[key]]) for key in ids}
    assert {row["source"] for row in rows} == set(of.values())
    assert {row["score"] for row in rows if row["source"] == "reference_answer"} == {None}


def test_responses_of_everyone_are_rows_where_an_arm_names_nobody(built_recipe: Recipe) -> None:
    recipe = with_arm(built_recipe, "responses", "sft")
    assert Pipeline(recipe)["build/responses"].inputs[1:] == (
        "score/one",
        "score/two",
        "score/target",
    )
    wrong = {"own": {"objective": "sft", "data": "responses", "rows_of": ["three"]}}
    with pytest.raises(RecipeError, match='no source "three"; sources: one, two, reference_answer'):
        Pipeline(recipe.model_copy(update={"arms": wrong}))
    wrong = {"own": {"objective": "sft", "rows_of": ["reference_answer"]}}
    with pytest.raises(RecipeError, match='no source "reference_answer"; sources: one, two'):
        Pipeline(recipe.model_copy(update={"arms": wrong}))


def test_rejection_samples_may_be_those_of_sources(built_recipe: Recipe) -> None:
    recipe = with_arm(built_recipe, "rejection", "sft", rejection={"responses_of": "sources"})
    build_table(recipe, "rejection")
    rows = read_rows(Pipeline(recipe).finished("build/rejection"))
    assert {(row["source"], row["index"]) for row in rows} == {("two", 0)}

"""A stage as data, and that a command reads only the files that its own key is made of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from data_construction.prompts import make_prompts
from tests.support.recipe_files import tiny_recipe
from wrpo.errors import MissingInputError, RecipeError
from wrpo.pipeline import stage
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.stage import Stage
from wrpo.recipe import Recipe, suite
from wrpo.recipe.suite import Suite

# --- what a command reads ---


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the model folders, the files and the suites that are read, as they are read."""
    found: list[str] = []

    def digest_of(path: Path) -> str:
        found.append(path.name)
        return path.name

    def suite_of(path: Path) -> Suite:
        found.append(path.name)
        return real_suite(path)

    real_suite = suite._read
    monkeypatch.setattr(stage, "_folder_digest", digest_of)
    monkeypatch.setattr(stage, "file_digest", digest_of)
    monkeypatch.setattr(suite, "_read", suite_of)
    return found


def local_recipe(folder: Path, *overrides: str) -> Recipe:
    """A recipe that reads no hub: four model folders, prompts and a suite."""
    for name in ("letters", "numbers", "target", "rm"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "prompts.jsonl").write_text('{"prompt": "Say a"}\n{"prompt": "Say b"}\n')
    quick = (suite.SUITES / "quick.yaml").read_text("utf-8")
    (folder / "own-suite.yaml").write_text(quick)
    return tiny_recipe(
        folder,
        f"sources.letters.model={folder / 'letters'}",
        f"sources.numbers.model={folder / 'numbers'}",
        f"target.model={folder / 'target'}",
        f"rewards.rm.model={folder / 'rm'}",
        f"prompts.datasets.world.path={folder / 'prompts.jsonl'}",
        f"eval.suite={folder / 'own-suite.yaml'}",
        *overrides,
    )


def test_a_pipeline_knows_names_and_inputs_without_reading_anything(
    tmp_path: Path, read: list[str]
) -> None:
    pipeline = Pipeline(local_recipe(tmp_path))
    assert pipeline["wrpo"].inputs == ("build/triples", "sft", "logprobs/sft/triples")
    assert pipeline["prompts"].command == ("data_construction.prompts",)
    assert pipeline.state("score/letters") == "missing"
    assert read == []


def test_the_prompts_hash_no_model(tmp_path: Path, read: list[str]) -> None:
    make_prompts(local_recipe(tmp_path))
    assert read == ["prompts.jsonl"]


def test_a_source_is_sampled_without_hashing_the_others(tmp_path: Path, read: list[str]) -> None:
    Pipeline(local_recipe(tmp_path)).key("sample/letters")
    assert sorted(read) == ["letters", "prompts.jsonl"]


def test_training_reads_what_its_rows_were_made_of_once_and_no_suite(
    tmp_path: Path, read: list[str]
) -> None:
    pipeline = Pipeline(local_recipe(tmp_path))
    pipeline.key("wrpo")
    assert set(read) == {"letters", "numbers", "rm", "target", "prompts.jsonl"}
    assert read.count("prompts.jsonl") == read.count("letters") == read.count("numbers") == 1
    before = len(read)
    pipeline.key("wrpo")
    assert len(read) == before


def test_training_on_imported_rows_hashes_no_source(tmp_path: Path, read: list[str]) -> None:
    for table in ("sft", "triples"):
        (tmp_path / f"{table}.jsonl").write_text("{}\n")
    imported = [
        f"build.imported.{name}.path={tmp_path / name}.jsonl" for name in ("sft", "triples")
    ]
    Pipeline(local_recipe(tmp_path, *imported)).key("wrpo")
    assert set(read) == {"sft.jsonl", "triples.jsonl", "target"}


def test_the_suite_is_read_when_all_stages_are_asked_for(tmp_path: Path, read: list[str]) -> None:
    assert "eval/wrpo" in Pipeline(local_recipe(tmp_path)).stages
    assert set(read) == {"own-suite.yaml"}


def test_a_suite_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match='no suite "quik"; did you mean "quick"'):
        Pipeline(tiny_recipe(tmp_path, "eval.suite=quik"))


# --- the command line ---


def test_messages_name_the_recipe_and_the_overrides(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, "sample.responses=2")
    said = f"--recipe {tmp_path / 'recipe.yaml'} runs={tmp_path / 'runs'} sample.responses=2"
    assert Pipeline(recipe).shell_command("sft") == f"python -m wrpo.train_sft {said}"
    with pytest.raises(MissingInputError, match=re.escape(said)):
        Pipeline(recipe).finished("sample/letters")


def test_recipes_that_say_the_same_are_equal_wherever_they_were_read(tmp_path: Path) -> None:
    one = tiny_recipe(tmp_path)
    assert one.read_from(Path("elsewhere.yaml"), ["run=tiny"]) == one


def test_a_stage_says_its_name_and_its_command() -> None:
    named = Stage("responses", {"benchmark": "mt_bench", "model": "sft"})
    assert named.name == "responses/mt_bench/sft"
    assert named.command == ("eval.generate", "--benchmark", "mt_bench", "--model", "sft")
    assert Stage("train", {"arm": "dpo"}).name == "dpo"

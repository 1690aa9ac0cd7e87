"""`wrpo init`: from flags and questions to a recipe that loads, and to a task that scores."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.eval.tasks.local import prompts, scores
from wrpo import __main__ as command
from wrpo.errors import DataError, RecipeError
from wrpo.recipe import load_recipe
from wrpo.start.answers import (
    Answers,
    add_init_flags,
    collect_answers,
    look_at,
    named_sources,
)
from wrpo.start.held_out import hold_out
from wrpo.start.recipe_text import batch_size, recipe_text


@pytest.fixture
def own(tmp_path: Path) -> Path:
    rows = [{"question": f"What is {n} + 1?", "gold": n + 1} for n in range(200)]
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def answers_of(*flags: str, ask: Callable[[str], str] | None = None) -> Answers:
    parser = argparse.ArgumentParser()
    add_init_flags(parser)
    return collect_answers(parser.parse_args(flags), ask)


def test_flags_alone_are_enough_and_columns_are_found(own: Path) -> None:
    found = answers_of(
        *("--target", "org/small", "--source", "org/Big", "--source", "b=x/y"),
        *("--prompts", str(own), "--reward", "answer"),
    )
    assert found.sources == {"big": "org/Big", "b": "x/y"}
    assert (found.prompt, found.reference_answer, found.rows) == ("question", "gold", 200)


@pytest.mark.parametrize("form", ["csv", "parquet", "jsonl"])
def test_files_of_all_forms_tell_their_columns_and_rows(form: str, tmp_path: Path) -> None:
    import pandas as pd

    rows = pd.DataFrame({"prompt": ["a?", "b?"], "answer": ["1", "2"]})
    path = tmp_path / f"own.{form}"
    write = {"csv": rows.to_csv, "parquet": rows.to_parquet}.get(form)
    if write:
        write(path, index=False)
    else:
        rows.to_json(path, orient="records", lines=True)
    assert look_at(str(path)) == (["prompt", "answer"], 2)


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_mark_of_byte_order_as_spreadsheets_write_it_is_no_part_of_a_column(
    form: str, tmp_path: Path
) -> None:
    rows = [f"prompt{n}?,{n}" for n in range(10)]
    text = {
        "csv": "\n".join(["prompt,answer", *rows]),
        "jsonl": "\n".join(json.dumps({"prompt": row, "answer": "1"}) for row in rows),
    }[form]
    path = tmp_path / f"own.{form}"
    path.write_text(text + "\n", encoding="utf-8-sig")
    assert look_at(str(path)) == (["prompt", "answer"], 10)
    found = Answers("own", "t", {}, str(path), "prompt", "answer", "answer", rows=10)
    kept = Path(hold_out(found, tmp_path / "tasks").prompts).read_text().splitlines()
    assert [set(json.loads(line)) for line in kept] == [{"prompt", "answer"}] * 8


def test_what_cannot_be_read_says_which_file(tmp_path: Path) -> None:
    path = tmp_path / "own.parquet"
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"own.parquet cannot be read"):
        look_at(str(path))
    assert look_at("org/data-of-a-hub") == ([], 0)


def test_questions_are_asked_for_what_is_missing(own: Path) -> None:
    replies = iter(["org/small", "org/one org/two", str(own), "math"])
    asked: list[str] = []

    def ask(text: str) -> str:
        asked.append(text)
        return next(replies)

    found = answers_of(ask=ask)
    assert list(found.sources) == ["one", "two"] and found.reward == "math"
    assert len(asked) == 4


@pytest.mark.parametrize(
    ("flags", "error", "message"),
    [
        ([], RecipeError, "--target is missing"),
        (["--prompts", "nothing.jsonl"], DataError, "no file nothing.jsonl"),
        (["--prompts", "own.jsonl", "--prompt-column", "x"], RecipeError, "question, gold"),
        (["--prompts", "bad.jsonl", "--reward", "answer"], RecipeError, "--reference-column"),
    ],
)
def test_what_makes_no_sense_is_refused(
    own: Path,
    flags: list[str],
    error: type[Exception],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(own.parent)
    Path("bad.jsonl").write_text('{"prompt": "x"}\n')
    models = ["--target", "t", "--source", "s"] if flags else []
    with pytest.raises(error, match=message):
        answers_of(*models, *flags, ask=None)


def test_sources_of_one_name_are_told_apart() -> None:
    assert list(named_sources(["a/Model", "b/model", "model=c"])) == ["model", "model-2", "model-3"]


@pytest.mark.parametrize(("rows", "batch"), [(None, 128), (200, 8), (10_000, 128), (3, 1)])
def test_few_prompts_make_small_batches(rows: int | None, batch: int) -> None:
    assert batch_size(rows) == batch


@pytest.mark.parametrize("gpu", [True, False])
@pytest.mark.parametrize("reward", ["answer", "math", "instruction", "reasoning_gym", "org/judge"])
def test_every_recipe_loads_and_says_what_was_answered(
    gpu: bool, reward: str, tmp_path: Path
) -> None:
    told = Answers("mine", "a b/t", {"x": "org/x"}, "my data.jsonl", "q", "gold", reward, 50)
    path = tmp_path / "mine.yaml"
    path.write_text(recipe_text(told, "mine.yaml", gpu=gpu), encoding="utf-8")
    recipe = load_recipe(path)
    assert recipe.target.model == "a b/t" and recipe.sources["x"].model == "org/x"
    assert recipe.prompts.datasets["mine"].path == "my data.jsonl"
    assert {"dpo", "more-sft"} == set(recipe.arms)


@pytest.mark.parametrize(
    ("context", "prompt", "response"), [(256, 192, 64), (1 << 17, 1024, 128), (None, 1024, 128)]
)
def test_lengths_fit_the_smallest_model_that_is_a_folder(
    context: int | None, prompt: int, response: int, tmp_path: Path
) -> None:
    (tmp_path / "small").mkdir()
    config = {"text_config": {"max_position_embeddings": context}} if context else {}
    (tmp_path / "small" / "config.json").write_text(json.dumps(config))
    sources = {"x": "org/x", "y": str(tmp_path / "small")}
    told = Answers("mine", "org/t", sources, "own.jsonl", "q", "gold", "math", 50)
    path = tmp_path / "mine.yaml"
    path.write_text(recipe_text(told, "mine.yaml", gpu=False), encoding="utf-8")
    recipe = load_recipe(path)
    assert (recipe.sample.max_prompt_tokens, recipe.sample.max_tokens) == (prompt, response)
    assert recipe.truncation.max_length == min(2048, context or 2048)


def test_it_writes_a_recipe_and_holds_prompts_out(
    own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(own.parent)
    flags = ["--target", "t", "--source", "s", "--prompts", "own.jsonl", "--reward", "answer"]
    monkeypatch.setattr("sys.argv", ["wrpo", *flags, "--output", "mine.yaml"])
    command.init()
    assert "next: wrpo doctor --recipe mine.yaml" in capsys.readouterr().out
    recipe = load_recipe(Path("mine.yaml"))
    assert recipe.eval.tasks == ["mine"] and recipe.eval.include_path == Path("mine-tasks")
    left, out = (
        {json.loads(line)["question"] for line in path.read_text().splitlines()}
        for path in (Path(recipe.prompts.datasets["mine"].path), Path("mine-tasks/held-out.jsonl"))
    )
    assert (len(left), len(out)) == (160, 40) and not left & out
    with pytest.raises(RecipeError, match="is there already"):
        command.init()


def test_the_held_out_task_scores_as_the_reward_does(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.tasks import TaskManager

    monkeypatch.chdir(own.parent)
    flags = ["--target", "t", "--source", "s", "--prompts", "own.jsonl", "--reward", "answer"]
    monkeypatch.setattr("sys.argv", ["wrpo", *flags, "--output", "mine.yaml"])
    command.init()
    assert yaml.safe_load(Path("mine.yaml").read_text())["eval"]["metrics"] == ["acc"]
    manager = TaskManager(include_path="mine-tasks", include_defaults=False)
    (task,) = manager.load(["mine"])["tasks"].values()
    documents = list(task.test_docs())
    turns, _ = prompts(task)[0]
    assert turns == [{"role": "user", "content": documents[0]["question"]}]
    said = [[str(row["gold"]) if n % 2 else "no"] for n, row in enumerate(documents)]
    found = scores(task, said)["none"]
    assert [row["acc"] for row in found] == [float(n % 2) for n in range(len(documents))]

"""eval.run with the real lm-eval, transformers and a tiny model."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from eval.harness.models import chosen_names, engine_arguments, resolve_models
from eval.harness.results import EvaluatedSample, read_results, read_samples
from eval.report import report_run
from eval.run import evaluate_models
from tests.eval.conftest import TASK, make_recipe, write_tasks
from wrpo.chat.render import render_prompt
from wrpo.chat.template import template_hash
from wrpo.chat.tokenizer import load_tokenizer
from wrpo.errors import MissingInputError, ModelError, RecipeError, StageError
from wrpo.pipeline.folder import StageFolder, read_manifest
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pruning.__main__ import prune_target
from wrpo.recipe import Recipe
from wrpo.recipe.fusions import ModelFusion
from wrpo.recipe.prune import Prune


def recipe_for(root: Path, model: Path | str, folder: Path, **fields: Any) -> Recipe:
    settings = {"tasks": [TASK], "include_path": str(folder), "dtype": "float32", **fields}
    return make_recipe(root, model, **settings)


def folder_of(recipe: Recipe, name: str) -> Path:
    return recipe.runs / recipe.run / "eval" / name


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Recipe:
    """A recipe whose target is evaluated on both tasks."""
    root = tmp_path_factory.mktemp("evaluated")
    tasks = write_tasks(root / "tasks")
    recipe = recipe_for(root, tiny_model, tasks, tasks=[TASK, "pick_word"])
    evaluate_models(recipe, "target")
    return recipe


def responses(samples: Sequence[EvaluatedSample]) -> list[str]:
    return [sample.response for sample in samples if sample.task == TASK]


def test_results_hold_what_a_reader_needs_to_repeat_them(
    evaluated: Recipe, tiny_model: Path
) -> None:
    results = read_results(folder_of(evaluated, "target"))
    tokenizer = load_tokenizer(tiny_model)
    task = results["tasks"][TASK]
    assert task["n"] == 12
    assert task["generation_kwargs"]["max_gen_toks"] == 8
    assert task["metrics"]["reward,none"]["higher_is_better"] is True
    assert results["model"]["chat_template"] == tokenizer.chat_template
    assert results["model"]["chat_template_hash"] == template_hash(tokenizer)
    assert results["members"] == {TASK: [TASK], "pick_word": ["pick_word"]}


def test_the_first_prompt_has_the_ids_of_training(evaluated: Recipe, tiny_model: Path) -> None:
    first = read_results(folder_of(evaluated, "target"))["tasks"][TASK]["first_prompt"]
    tokenizer = load_tokenizer(tiny_model)
    assert first["token_ids"] == render_prompt(tokenizer, [{"role": "user", "content": "say 0"}])
    assert tokenizer.decode(first["token_ids"]) == first["text"]


def test_samples_agree_with_the_results(evaluated: Recipe) -> None:
    folder = folder_of(evaluated, "target")
    samples = [sample for sample in read_samples(folder) if sample.task == TASK]
    mean = sum(sample.values["reward"] for sample in samples) / len(samples)
    assert len(samples) == 12
    assert mean == pytest.approx(
        read_results(folder)["tasks"][TASK]["metrics"]["reward,none"]["value"]
    )
    assert {sample.doc["skill"] for sample in samples} == {"odd", "even"}
    assert samples[3].question == "say 3!!!"
    assert all(sample.response for sample in samples)


def test_multiple_choice_is_scored_by_likelihood(evaluated: Recipe) -> None:
    samples = [s for s in read_samples(folder_of(evaluated, "target")) if s.task == "pick_word"]
    assert len(samples) == 12
    assert {sample.values["acc"] for sample in samples} <= {0.0, 1.0}


def test_a_finished_evaluation_is_skipped(
    evaluated: Recipe, caplog: pytest.LogCaptureFixture
) -> None:
    written = (folder_of(evaluated, "target") / "manifest.json").stat().st_mtime_ns
    with caplog.at_level("INFO"):
        evaluate_models(evaluated, "target")
    assert "eval/target is complete" in caplog.text
    assert (folder_of(evaluated, "target") / "manifest.json").stat().st_mtime_ns == written


def test_batch_size_does_not_change_the_answers(
    evaluated: Recipe, tiny_model: Path, tmp_path: Path
) -> None:
    tasks = evaluated.eval.include_path
    assert tasks is not None
    one = recipe_for(tmp_path, tiny_model, tasks, engine={"batch_size": 1})
    evaluate_models(one, "first")
    together = responses(read_samples(folder_of(evaluated, "target")))
    assert responses(read_samples(folder_of(one, "first"))) == together


def test_a_trained_model_is_read_from_its_stage(
    tmp_path: Path, tiny_model: Path, task_folder: Path
) -> None:
    recipe = recipe_for(tmp_path, tiny_model, task_folder, limit=2)
    pipeline = Pipeline(recipe)
    stage = StageFolder(pipeline.folder("sft"), pipeline.key("sft"))
    stage.open()
    (stage.path / "model").symlink_to(tiny_model)
    stage.finish()
    evaluate_models(recipe, "sft")
    results = read_results(folder_of(recipe, "sft"))
    assert results["model"]["path"].endswith("sft/model")
    assert results["tasks"][TASK]["n"] == 2
    manifest = read_manifest(folder_of(recipe, "sft"))
    assert manifest is not None
    assert (manifest["complete"], manifest["rows"]) == (True, 2)


@pytest.mark.slow
@pytest.mark.usefixtures("empty_charts")
def test_fusions_and_the_pruned_target_are_evaluated_and_reported_among_the_models(
    tmp_path: Path, tiny_model: Path, task_folder: Path
) -> None:
    """A fusion of one model with itself answers as that model; the pruned target does not."""
    texts = tmp_path / "texts.txt"
    texts.write_text("The sea and the hill.\n\nA moon over old sand. " * 5)
    base = recipe_for(tmp_path, tiny_model, task_folder, limit=4)
    recipe = base.model_copy(
        update={
            "fusions": {"cool": ModelFusion(members=["first", "second"])},
            "prune": Prune(remove=1, blocks="layers", texts=texts, sequence_tokens=64),
        }
    )
    prune_target(recipe)
    for name in ("target", "first", "cool", "prune"):
        evaluate_models(recipe, name)
    said = {  # half a character at the end is no text to a fusion
        name: [text.rstrip("\ufffd") for text in responses(read_samples(folder_of(recipe, name)))]
        for name in ("target", "first", "cool", "prune")
    }
    assert said["cool"] == said["first"] == said["target"] != said["prune"]
    report = report_run(recipe)
    scores = json.loads((report / "report.json").read_text())["tasks"][TASK]["scores"]
    assert list(scores["acc"]) == ["target", "first", "cool", "prune"]
    text = (report / "report.md").read_text()
    assert "fusion cool" in text and "pruned target" in text


def test_generation_takes_nothing_from_the_models_own_settings(tiny_model: Path) -> None:
    from eval.harness.hf import ChatHFLM

    tokenizer = load_tokenizer(tiny_model)
    tokenizer.eos_token = tokenizer.bos_token  # a base model's EOS that ends no turn
    model = ChatHFLM(str(tiny_model), tokenizer=tokenizer, fold_system=False, device="cpu")
    settings = model.model.generation_config
    turn_end = tokenizer.convert_tokens_to_ids("<|eot|>")
    assert settings.eos_token_id == [turn_end, tokenizer.eos_token_id]
    assert settings.to_diff_dict().keys() <= {
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "transformers_version",
    }


def test_other_settings_are_refused_before_anything_loads(
    evaluated: Recipe, tiny_model: Path
) -> None:
    changed = evaluated.model_copy(update={"eval": evaluated.eval.model_copy(update={"limit": 3})})
    with pytest.raises(StageError, match=r"limit: None -> 3"):
        evaluate_models(changed, "target")


def test_untrained_models_are_listed_with_their_commands(
    tmp_path: Path, tiny_model: Path, task_folder: Path
) -> None:
    recipe = recipe_for(tmp_path, tiny_model, task_folder)
    with pytest.raises(MissingInputError) as raised:
        evaluate_models(recipe)
    for command in ("wrpo.train_sft", "wrpo.train --arm wrpo", "wrpo.train --arm more-sft"):
        assert command in str(raised.value)


def test_an_unknown_model_is_answered_with_the_nearest_name(tmp_path: Path) -> None:
    recipe = recipe_for(tmp_path, "some/model", tmp_path)
    with pytest.raises(RecipeError, match=r'no model "frist" .* did you mean "first"'):
        chosen_names(recipe, "frist")


def test_a_recipe_without_tasks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"names no benchmark of lm-eval"):
        chosen_names(make_recipe(tmp_path, "some/model"), "all")


def test_sources_keep_their_revision_and_template(tmp_path: Path) -> None:
    recipe = recipe_for(tmp_path, "some/model", tmp_path)
    entry = recipe.sources["first"].model_copy(update={"revision": "abc", "fold_system": True})
    recipe = recipe.model_copy(update={"sources": {**recipe.sources, "first": entry}})
    (model,) = resolve_models(Pipeline(recipe), ["first"])
    assert (model.path, model.revision, model.fold_system) == ("some/model", "abc", True)


def test_vllm_is_given_what_the_recipe_says_of_each_models_engine(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path, "org/model", backend="vllm")
    engine = {"vllm": {"cpu_offload_gb": 4}, "max_num_seqs": 7}
    first = recipe.sources["first"].model_validate({"model": "org/model", "engine": engine})
    recipe = recipe.model_copy(update={"sources": {**recipe.sources, "first": first}})
    given = engine_arguments(recipe, "first")
    assert (given["cpu_offload_gb"], given["max_num_seqs"]) == (4, 7)
    assert "cpu_offload_gb" not in engine_arguments(recipe, "second")
    assert engine_arguments(make_recipe(tmp_path, "org/model"), "first") == {}


def test_a_missing_task_folder_is_named(tmp_path: Path, tiny_model: Path) -> None:
    recipe = recipe_for(tmp_path, tiny_model, tmp_path / "nowhere")
    with pytest.raises(MissingInputError, match=r"include_path: no folder .*nowhere"):
        evaluate_models(recipe, "target")


def test_a_context_too_short_for_the_answer_is_refused(
    tmp_path: Path, tiny_model: Path, task_folder: Path
) -> None:
    recipe = recipe_for(tmp_path, tiny_model, task_folder, max_length=8)
    with pytest.raises(RecipeError, match=r"up to 8 tokens, .* into the context of 8"):
        evaluate_models(recipe, "target")


def test_prompts_that_lm_eval_cuts_are_counted(
    tmp_path: Path, tiny_model: Path, task_folder: Path
) -> None:
    recipe = recipe_for(tmp_path, tiny_model, task_folder, max_length=38)
    evaluate_models(recipe, "target")
    results = read_results(folder_of(recipe, "target"))
    first = results["tasks"][TASK]["first_prompt"]["token_ids"]
    room = 38 - 8
    expected = sum(len(first) + i + (i >= 10) > room for i in range(12))
    assert 0 < expected < 12
    assert results["truncated_prompts"][TASK] == expected


def test_a_model_that_does_not_load_is_named(tmp_path: Path, task_folder: Path) -> None:
    recipe = recipe_for(tmp_path, tmp_path / "no-model", task_folder)
    with pytest.raises(ModelError, match="no-model"):
        evaluate_models(recipe, "target")


def test_a_group_keeps_the_names_of_its_tasks(
    tmp_path: Path, tiny_model: Path, task_folder: Path
) -> None:
    recipe = recipe_for(tmp_path, tiny_model, task_folder, tasks=["both_words"], limit=3)
    evaluate_models(recipe, "target")
    results = read_results(folder_of(recipe, "target"))
    assert results["members"] == {"both_words": ["copy_word", "pick_word"]}
    assert {sample.task for sample in read_samples(folder_of(recipe, "target"))} == {
        "copy_word",
        "pick_word",
    }


def test_code_written_by_models_runs_only_where_that_is_allowed(
    tmp_path: Path, tiny_model: Path, task_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_for(tmp_path, tiny_model, task_folder, tasks=["write_code"], limit=1)
    monkeypatch.delenv("HF_ALLOW_CODE_EVAL", raising=False)
    with pytest.raises(RecipeError, match="write_code runs code .* HF_ALLOW_CODE_EVAL=1"):
        evaluate_models(recipe, "target")
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "1")
    evaluate_models(recipe, "target")
    assert read_results(folder_of(recipe, "target"))["tasks"]["write_code"]["n"] == 1


@pytest.mark.slow  # indexes the thousands of tasks that come with lm-eval
@pytest.mark.usefixtures("kept_tasks")
def test_an_unknown_task_is_answered_with_near_names(
    tmp_path: Path, tiny_model: Path, task_folder: Path
) -> None:
    recipe = recipe_for(tmp_path, tiny_model, task_folder, tasks=["copy_wrod"])
    with pytest.raises(
        RecipeError, match=r'"copy_wrod"; did you mean copy_word.*Tasks in'
    ) as raised:
        evaluate_models(recipe, "target")
    assert "both_words, copy_word, pick_word, write_code" in str(raised.value)


def test_help_needs_no_heavy_import() -> None:
    code = (
        "import sys, eval.run, eval.report\n"
        "heavy = {'torch', 'transformers', 'lm_eval', 'vllm', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow  # starts a vLLM engine
def test_vllm_gives_the_answers_of_transformers(tmp_path: Path, task_folder: Path) -> None:
    pytest.importorskip("vllm")
    from tests.support.tiny_models import save_tiny

    model = save_tiny(tmp_path / "model", head_dim=32)  # a size that CPU attention supports
    slow = recipe_for(tmp_path, model, task_folder, tasks=["both_words"])
    engine = slow.sample.engine.model_copy(
        update={"enforce_eager": True, "kv_cache_mib": 64, "max_num_seqs": 16}
    )
    fast = slow.model_copy(
        update={
            "run": "vllm",
            "sample": slow.sample.model_copy(update={"engine": engine}),
            "eval": slow.eval.model_copy(update={"backend": "vllm"}),
        }
    )
    for recipe in (slow, fast):
        evaluate_models(recipe, "target")
    found = [read_samples(folder_of(recipe, "target")) for recipe in (slow, fast)]
    # vLLM leaves out a last character whose bytes are not complete.
    texts = [[text.rstrip("\ufffd") for text in responses(samples)] for samples in found]
    assert texts[0] == texts[1]
    assert [sample.values for sample in found[0]] == [sample.values for sample in found[1]]

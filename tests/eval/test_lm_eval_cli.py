"""The command line of lm-eval gives the numbers of this toolkit, for both backends."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eval.agreement import agreement, read_evaluation
from eval.harness.command_line import command_lines, printed
from eval.harness.models import EvalModel
from eval.run import evaluate_models, print_commands
from tests.eval.conftest import CHOICE_YAML, TASK, make_recipe
from tests.support.commands import environment, run_module
from wrpo.errors import MissingInputError
from wrpo.pipeline.pipeline import Pipeline
from wrpo.recipe import Recipe
from wrpo.recipe.evaluation import Eval
from wrpo.recipe.suite import OWN_TASKS

ENGINE = {"enforce_eager": True, "kv_cache_mib": 64, "max_num_seqs": 16}
VLLM_ENVIRONMENT = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1"}
LLAMA = EvalModel("target", "meta/llama", None, None, False, None, False)


@pytest.fixture(scope="module")
def tiny_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tasks of the demo, and a multiple-choice task beside them."""
    from tiny_world.build import write_data

    folder = tmp_path_factory.mktemp("world")
    write_data(5, folder)
    docs = [{"question": f"say {number}"} for number in range(6)]
    data = folder / "choice.jsonl"
    data.write_text("".join(json.dumps(doc) + "\n" for doc in docs), encoding="utf-8")
    (folder / "tasks" / "choice.yaml").write_text(CHOICE_YAML.format(data=data), encoding="utf-8")
    return folder / "tasks"


@pytest.fixture(scope="module")
def evaluated(
    tmp_path_factory: pytest.TempPathFactory, tiny_world: Path
) -> Callable[[str], Recipe]:
    """Evaluates one tiny model by the backend that is asked for, once."""
    from tests.support.tiny_models import save_tiny

    folder = tmp_path_factory.mktemp("runs")
    model = save_tiny(folder / "model", head_dim=32)  # a size that CPU attention supports

    @functools.cache
    def evaluate(backend: str) -> Recipe:
        recipe = make_recipe(
            folder,
            model,
            tasks=["tiny_world", "pick_word"],
            include_path=str(tiny_world),
            dtype="float32",
            limit=24,
            backend=backend,
        )
        engine = recipe.sample.engine.model_copy(update=ENGINE)
        sample = recipe.sample.model_copy(update={"engine": engine})
        recipe = recipe.model_copy(update={"run": backend, "sample": sample})
        evaluate_models(recipe, "target")
        return recipe

    return evaluate


def api_folder(recipe: Recipe) -> Path:
    return Pipeline(recipe).folder("eval/target")


def run_command(line: str, output: Path) -> None:
    """Runs a printed command of plain lm-eval."""
    program, *arguments = line.split(" ")
    assert program == "lm-eval"
    arguments[arguments.index("--output_path") + 1] = str(output)
    result = run_module("lm_eval", *arguments, env={**environment(), **VLLM_ENVIRONMENT})
    assert result.returncode == 0, result.stderr[-3000:]


@pytest.mark.slow  # starts lm-eval's command twice and a vLLM engine twice
@pytest.mark.parametrize("backend", ["hf", "vllm"])
def test_the_plain_command_gives_the_numbers_of_the_api(
    evaluated: Callable[[str], Recipe], tmp_path: Path, backend: str
) -> None:
    if backend == "vllm":
        pytest.importorskip("vllm")
    recipe = evaluated(backend)
    lines = [line for line in print_commands(recipe, "target") if line.startswith("lm-eval ")]
    assert len(lines) == 1
    run_command(lines[0], tmp_path)
    ours, theirs = read_evaluation(api_folder(recipe)), read_evaluation(tmp_path)
    assert ours == theirs
    assert {"tiny_world reward,none", "pick_word acc,none"} <= ours.metrics.keys()
    assert len(ours.responses) == 24 + 6


@pytest.mark.slow
def test_the_backends_agree_and_the_comparison_says_so(
    evaluated: Callable[[str], Recipe],
) -> None:
    pytest.importorskip("vllm")
    found = [read_evaluation(api_folder(evaluated(backend))) for backend in ("hf", "vllm")]
    lines = agreement(*found)
    assert lines[0].split() == ["metric", "first", "second", "difference"]
    assert "tiny_world acc,none" in "\n".join(lines)
    assert found[0].metrics == found[1].metrics
    assert any("0 scores differ" in line for line in lines)


def test_the_printed_commands_name_all_that_decides_a_number(tmp_path: Path) -> None:
    settings = Eval(suite="fusechat3", tasks=["ifeval"], dtype="bfloat16", max_length=4096, limit=5)
    plain, ours = printed(LLAMA, settings, engine={}, output=tmp_path)[1::2][::-1]
    assert plain.startswith("lm-eval run --model hf --model_args pretrained=meta/llama,")
    assert ours.startswith("python -m eval.lm_eval_cli run --model wrpo-hf ")
    for line in (plain, ours):
        assert "dtype=bfloat16,max_length=4096 --tasks mmlu_pro_cot," in line
        assert ",mbpp_evalplus,ifeval --include_path " + str(OWN_TASKS) in line
        assert " --apply_chat_template --batch_size 64 --seed 1234 --limit 5 " in line


def test_what_only_our_models_can_do_is_not_printed_for_plain_lm_eval(tmp_path: Path) -> None:
    gemma = EvalModel("target", "google/gemma", "main", None, True, None, False)
    settings = Eval(tasks=["ifeval"], sandbox="none-i-accept-the-risk")
    lines = printed(gemma, settings, engine={}, output=tmp_path)
    assert not any(line.startswith("lm-eval") for line in lines)
    assert "plain lm-eval cannot evaluate it alike: it drops system turns" in lines[-1]
    assert lines[1].startswith("env WRPO_EVAL_SANDBOX=none-i-accept-the-risk python -m")
    assert "revision=main" in lines[1] and "fold_system=True" in lines[1]


def test_each_folder_of_tasks_has_its_command(tmp_path: Path, task_folder: Path) -> None:
    settings = Eval(tasks=["gsm8k_boxed", TASK], include_path=task_folder, backend="vllm")
    engine = {"enforce_eager": True}
    found = command_lines(LLAMA, settings, engine=engine, output=tmp_path, plain=True)
    folders = [command[command.index("--include_path") + 1] for command in found]
    assert folders == [str(task_folder), str(OWN_TASKS)]
    assert all("enforce_eager=True" in command[5] for command in found)
    assert all("skip_special_tokens=True" in command for command in found)


@pytest.fixture
def penalised(tmp_path: Path) -> Path:
    """A model whose generation_config.json asks for a penalty."""
    from tests.support.tiny_models import save_tiny

    folder = save_tiny(tmp_path / "model")
    settings = json.loads((folder / "generation_config.json").read_text())
    settings["repetition_penalty"] = 5.0
    (folder / "generation_config.json").write_text(json.dumps(settings))
    return folder


def responses_of(name: str, model: Path, task_folder: Path) -> list[str]:
    import lm_eval
    from lm_eval.tasks import TaskManager

    from eval.lm_eval_cli import register_models

    register_models()
    found: Any = lm_eval.simple_evaluate(
        model=name,
        model_args={"pretrained": str(model), "dtype": "float32", "device": "cpu"},
        tasks=[TASK],
        task_manager=TaskManager(include_path=task_folder, include_defaults=False),
        apply_chat_template=True,
        bootstrap_iters=0,
        limit=6,
    )
    return [sample["resps"][0][0] for sample in found["samples"][TASK]]


@pytest.mark.slow
def test_penalties_of_the_model_change_lm_evals_greedy_answers_and_not_ours(
    penalised: Path, task_folder: Path
) -> None:
    recipe = make_recipe(
        penalised.parent,
        penalised,
        tasks=[TASK],
        include_path=str(task_folder),
        dtype="float32",
        limit=6,
    )
    evaluate_models(recipe, "target")
    expected = list(read_evaluation(api_folder(recipe)).responses.values())
    assert responses_of("wrpo-hf", penalised, task_folder) == expected
    assert responses_of("hf", penalised, task_folder) != expected


def test_a_folder_without_evaluation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"no results\.json .* no results_\*\.json"):
        read_evaluation(tmp_path)

"""The suites of benchmarks: their files, what they state, and how a recipe names them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lm_eval.tasks
import pytest
import yaml

from eval.harness.results import read_results
from eval.harness.suite_check import suite_differences, tasks_by_folder
from eval.run import evaluate_models
from eval.suites.table import suite_lines, suites_lines
from tests.eval.conftest import TASK, make_recipe
from tests.eval.tasks.local import local_task
from tests.eval.tasks.test_choice import GPQA, MMLU_PRO, REDUX
from tests.eval.tasks.test_code import HUMANEVAL, MBPP
from tests.eval.tasks.test_math import AMC, GSM8K, MATH
from tests.support.commands import run_module
from tests.wrpo.sandbox.test_sandbox import bubblewrap_runs, isolating
from wrpo.errors import RecipeError
from wrpo.pipeline.evaluation_stages import task_settings
from wrpo.pipeline.pipeline import Pipeline
from wrpo.recipe.evaluation import Eval
from wrpo.recipe.suite import (
    OWN_TASKS,
    code_tasks,
    evaluated_tasks,
    load_suite,
    own_tasks,
    shipped_suites,
)

SHIPPED = Path(lm_eval.tasks.__file__).parent
ROWS: dict[str, list[dict[str, Any]]] = {
    "mmlu_pro_cot": MMLU_PRO,
    "mmlu_redux_cot": REDUX,
    "gpqa_diamond_cot": GPQA,
    "gsm8k_boxed": GSM8K,
    "math_boxed": MATH,
    "amc23_boxed": AMC,
    "humaneval_evalplus": HUMANEVAL,
    "mbpp_evalplus": MBPP,
    "ifeval": [{"key": 1, "prompt": "Say it.", "instruction_id_list": [], "kwargs": []}],
    "gsm8k_cot_zeroshot": GSM8K,
    "minerva_math500": MATH,
}
FILES = {
    "ifeval": "ifeval/ifeval.yaml",
    "gsm8k_cot_zeroshot": "gsm8k/gsm8k-cot-zeroshot.yaml",
    "minerva_math500": "minerva_math/minerva_math500.yaml",
}
OWN_SUITE = """\
suite: mine
version: 1
about: for a test
benchmarks:
  copying: # runs
    harness: lm-eval
    version: 0.4.13
    task: copy_word
    task_version: 1.0
    documents: 12
    shots: 0
    template: the model's own
    decoding: {until: ["\\n"], do_sample: false, max_gen_toks: 8}
    metric: acc
    comparable: "no"
    why: Made up.
  liked:
    harness: judge
    version: "1"
    task: liking
    shots: 0
    template: the model's own
    decoding: {}
    metric: winrate
    judge: somebody
    comparable: "no"
    why: Made up.
  far:
    harness: external
    version: "1"
    shots: 0
    template: the model's own
    decoding: {}
    metric: score
    url: https://example.org
    run: walk there
    comparable: "no"
    why: Made up.
"""


def own_suite(folder: Path, old: str = "", new: str = "") -> str:
    path = folder / "mine.yaml"
    assert old in OWN_SUITE
    path.write_text(OWN_SUITE.replace(old, new) if old else OWN_SUITE, encoding="utf-8")
    return str(path)


def statements() -> list[Any]:
    return [
        pytest.param(suite, name, id=f"{suite}-{name}", marks=isolating if "eval" in name else ())
        for suite in shipped_suites()
        for name in load_suite(suite).lm_eval()
        if suite != "demo"
    ]


@pytest.mark.parametrize(("suite", "name"), statements())
def test_every_statement_of_a_suite_is_what_lm_eval_does(
    tmp_path: Path, suite: str, name: str
) -> None:
    entry = load_suite(suite).lm_eval()[name]
    if code_tasks([entry.task]) and not bubblewrap_runs():
        pytest.skip("bwrap is missing or not permitted")
    file = SHIPPED / FILES[entry.task] if entry.task in FILES else None
    task = local_task(tmp_path, entry.task, ROWS[entry.task], file=file)
    assert suite_differences(entry, task) == []
    other = entry.model_copy(
        update={"shots": 7, "metric": "luck", "decoding": {**entry.decoding, "max_gen_toks": 9}}
    )
    found = "\n".join(suite_differences(other, task))
    assert "the suite says 7" in found and '"luck"' in found and "the suite says 9" in found


def test_the_suites_are_those_of_the_papers() -> None:
    assert shipped_suites() == ["demo", "fusechat3", "quick", "wrpo"]
    assert list(load_suite("wrpo").judged()) == ["alpaca_eval_2", "arena_hard", "mt_bench"]
    fusechat3 = load_suite("fusechat3")
    assert len(fusechat3.benchmarks) == 14
    assert len(fusechat3.lm_eval()) == 8 and len(fusechat3.judged()) == 3
    run_elsewhere = fusechat3.not_by_lm_eval().keys() - fusechat3.judged().keys()
    assert run_elsewhere == {"alignbench", "livebench", "livecodebench"}


def test_task_files_are_called_like_their_tasks() -> None:
    for path in OWN_TASKS.rglob("[!_]*.yaml"):
        named = [f"\n{kind}: {path.stem}\n" for kind in ("task", "group")]
        assert any(name in "\n" + path.read_text("utf-8") for name in named)


def test_the_table_shows_every_benchmark(tmp_path: Path) -> None:
    lines = suite_lines(load_suite(own_suite(tmp_path)))
    assert lines[2].split()[:3] == ["benchmark", "run", "by"]
    assert "copy_word" in lines[3] and "greedy, 8 tokens" in lines[3]
    assert "  run it yourself: walk there (https://example.org)" in lines
    assert len(suites_lines([load_suite(name) for name in shipped_suites()])) == 4


def test_the_command_answers_a_misspelt_name() -> None:
    result = run_module("eval.suites", "show", "qiuck")
    assert result.returncode == 2
    assert 'no suite "qiuck"; did you mean "quick"?' in result.stderr


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("shots: 0", "shot: 0", r"mine\.yaml:\d+: benchmarks\.copying\.shot"),
        ("harness: judge", "harness: jugde", r"mine\.yaml:17: benchmarks\.liked: "),
        ('comparable: "no"', "comparable: maybe", r"benchmarks\.copying\.comparable"),
        ("version: 1\n", "version: 0\n", r"mine\.yaml:2: version"),
    ],
)
def test_a_wrong_suite_is_told_by_file_and_line(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        load_suite(own_suite(tmp_path, old, new))


def test_a_recipe_names_one_suite_or_several_beside_tasks(tmp_path: Path) -> None:
    settings = Eval(suite=["quick", own_suite(tmp_path)], tasks=["ifeval", "arc_challenge"])
    quick = ["ifeval", "gsm8k_cot_zeroshot", "minerva_math500"]
    assert evaluated_tasks(settings) == [*quick, "copy_word", "arc_challenge"]
    assert evaluated_tasks(Eval(suite="quick")) == quick
    assert own_tasks(["ifeval", "gsm8k_boxed"]) == ["gsm8k_boxed"]


def test_the_key_follows_what_a_suite_states_and_not_its_prose(tmp_path: Path) -> None:
    before = task_settings(Eval(suite=own_suite(tmp_path)))
    prose = task_settings(Eval(suite=own_suite(tmp_path, "Made up.", "Invented.")))
    judged = task_settings(Eval(suite=own_suite(tmp_path, "metric: winrate", "metric: rate")))
    stated = task_settings(Eval(suite=own_suite(tmp_path, "max_gen_toks: 8", "max_gen_toks: 9")))
    assert before == prose == judged
    assert before != stated
    assert task_settings(Eval(tasks=["ifeval"])) == {}
    assert task_settings(Eval(tasks=["gsm8k_boxed"])).keys() == {"own_tasks"}


def test_a_suite_without_lm_eval_makes_no_evaluation_stage(tmp_path: Path) -> None:
    assert "eval/sft" not in Pipeline(make_recipe(tmp_path, "some/model", suite="wrpo")).stages
    assert "eval/sft" in Pipeline(make_recipe(tmp_path, "some/model", suite="quick")).stages


def test_tasks_are_sorted_by_the_folder_that_knows_them(tmp_path: Path, task_folder: Path) -> None:
    settings = Eval(tasks=["ifeval", TASK, "gsm8k_boxed"], include_path=task_folder)
    assert tasks_by_folder(settings) == {
        task_folder: [TASK],
        OWN_TASKS: ["ifeval", "gsm8k_boxed"],
    }
    assert tasks_by_folder(Eval(tasks=["ifeval"])) == {None: ["ifeval"]}


def test_what_lm_eval_does_not_run_is_listed_and_the_rest_runs(
    tmp_path: Path, tiny_model: Path, task_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = make_recipe(
        tmp_path,
        tiny_model,
        suite=own_suite(tmp_path),
        include_path=str(task_folder),
        dtype="float32",
        limit=2,
    )
    evaluate_models(recipe, "target")
    assert "liked is not run: needs a judge model" in caplog.text
    assert "far is not run: run it yourself: walk there" in caplog.text
    results = read_results(Pipeline(recipe).folder("eval/target"))
    assert results["tasks"].keys() == {TASK}
    (suite,) = results["suites"]
    assert (suite["suite"], suite["version"]) == ("mine", 1)
    assert suite["not_run"].keys() == {"liked", "far"}


def test_a_task_that_is_not_what_the_suite_says_is_refused_before_a_model_loads(
    tmp_path: Path, task_folder: Path
) -> None:
    path = own_suite(tmp_path, "max_gen_toks: 8", "max_gen_toks: 9")
    recipe = make_recipe(tmp_path, tmp_path / "no-model", suite=path, include_path=str(task_folder))
    with pytest.raises(
        RecipeError, match="copy_word generates with max_gen_toks 8, the suite says 9"
    ):
        evaluate_models(recipe, "target")


def test_shipped_suites_are_plain_yaml() -> None:
    for name in shipped_suites():
        content = yaml.safe_load((OWN_TASKS.parent / "suites" / f"{name}.yaml").read_text())
        assert content["suite"] == name

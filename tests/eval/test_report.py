"""The report of one run, over folders written by the real stage code."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.report import _introduction, main, report_run
from eval.reporting.board import ORACLE, Board, boards, with_best_source
from eval.reporting.data_facts import data_facts
from eval.reporting.evidence import read_run
from eval.reporting.sections.responses import draw_evenly, shorten
from tests.eval.conftest import make_recipe
from tests.eval.synthetic_run import ACCURACY, TASK, make_run, write_evaluation
from wrpo.errors import DataError, MissingInputError, RecipeError
from wrpo.objectives.dpo import DPOSettings
from wrpo.pipeline.pipeline import Pipeline
from wrpo.recipe import Recipe


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """A finished run."""
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def report(recipe: Recipe) -> Path:
    """The folder of its report."""
    return report_run(recipe)


@pytest.fixture(scope="module")
def numbers(report: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((report / "report.json").read_text(encoding="utf-8"))
    return content


def test_the_introduction_says_what_was_trained_and_by_whom(recipe: Recipe) -> None:
    assert _introduction(recipe) == (
        "Sources first, second teach the target. Seed 1. Objective wrpo on triples, beta 0.01, "
        "alpha linear to 0.1."
    )
    settings = DPOSettings(loss="sigmoid_norm", data="pairs", beta=10.0)
    dpo = recipe.model_copy(update={"wrpo": settings})
    assert _introduction(dpo).endswith("Objective dpo with loss sigmoid_norm on pairs, beta 10.")


def test_the_verdict_names_what_is_shown_and_what_is_not(report: Path) -> None:
    text = (report / "report.md").read_text(encoding="utf-8")
    assert "WRPO is better than the best single source (first): reward +0.800" in text
    assert "WRPO is better than DPO (dpo): acc +0.200" in text
    assert "No difference shown between WRPO and more SFT (more-sft): acc +0.000" in text
    assert text.index("## Verdict") < text.index("## Scores")


@pytest.mark.usefixtures("empty_charts")
def test_a_worse_fused_model_is_said_to_be_worse(tmp_path: Path) -> None:
    bad = make_run(tmp_path, accuracy={**ACCURACY, "wrpo": 0.2})
    text = (report_run(bad) / "report.md").read_text(encoding="utf-8")
    assert "WRPO is worse than SFT alone: reward -0.800" in text


def test_a_log_whose_loss_is_no_number_is_refused_with_stage_and_step(tmp_path: Path) -> None:
    broken = make_run(tmp_path)
    log = Pipeline(broken).folder("wrpo") / "log_history.json"
    log.write_text(json.dumps([{"step": 1, "loss": 0.5}, {"step": 2, "loss": float("nan")}]))
    with pytest.raises(DataError, match=r"wrpo/log_history\.json: the loss of step 2 is nan"):
        report_run(broken)


def test_scores_are_the_means_of_the_samples(numbers: dict[str, Any]) -> None:
    scores = numbers["tasks"][TASK]["scores"]
    for name, share in ACCURACY.items():
        assert scores["acc"][name]["value"] == pytest.approx(share)
        assert scores["reward"][name]["value"] == pytest.approx(2 * share + 1)
        assert scores["acc"][name]["low"] < share < scores["acc"][name]["high"]


def test_scores_are_broken_down_by_the_field_of_the_recipe(numbers: dict[str, Any]) -> None:
    groups = numbers["tasks"][TASK]["groups"]["acc"]
    assert set(groups) == {"add", "spell"}
    halves = [groups[name]["wrpo"]["value"] for name in groups]
    assert sum(halves) / 2 == pytest.approx(ACCURACY["wrpo"])


def test_the_html_names_no_address_and_has_no_script_but_ours(report: Path) -> None:
    page = (report / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|[^ ]//[a-z]|<link|<img|@import|url\((?!#)", page)
    assert page.count("<script>") == page.count("</script>") == 1
    assert '<meta name="viewport"' in page
    assert page.count("<svg") == page.count("</svg>") > 5


def test_every_table_row_of_the_markdown_has_as_many_cells_as_its_header(report: Path) -> None:
    width = 0
    for line in (report / "report.md").read_text(encoding="utf-8").splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert not cells or not width or cells == width, line
        width = cells


def test_training_curves_take_what_was_logged(numbers: dict[str, Any]) -> None:
    assert set(numbers["training"]) == {"sft", "wrpo", "dpo", "more-sft"}
    assert numbers["training"]["wrpo"]["alpha"]["alpha"][-1] == [5.0, 0.5]
    assert "alpha" not in numbers["training"]["sft"]
    assert numbers["training"]["sft"]["loss"]["loss"][0] == [1.0, 0.69]


def test_data_facts_count_winners_and_drops(recipe: Recipe) -> None:
    facts = data_facts(read_run(recipe))
    assert facts["winners"]["build/sft"]["first"] == {
        "rows": 3,
        "share": 0.75,
        "mean_score": 1.0,
    }
    assert facts["winners"]["build/triples"] == {
        "second": {"rows": 4, "share": 1.0, "mean_score": 2.0}
    }
    assert facts["scores"]["second"]["q50"] == pytest.approx(1.45)
    assert facts["responses"]["build/triples"]["chosen - rejected"]["mean"] == pytest.approx(2.5)
    assert facts["stages"]["score/first"] == {
        "rows": 10,
        "dropped": 1,
        "reasons": {"too_long": 1},
    }


def test_what_truncation_cuts_is_shown_with_its_limits(report: Path) -> None:
    text = (report / "report.md").read_text(encoding="utf-8")
    assert "Truncation of build/triples" in text
    assert "Counted for max_length=64, max_prompt_length=48, mode=separate" in text
    assert "| source_chosen loses tokens | 2 | 50.0% |" in text
    assert "| not trained on: the prompt fills max_length | 1 | 25.0% |" in text


def test_answers_of_all_models_stand_side_by_side(numbers: dict[str, Any]) -> None:
    shown = numbers["tasks"][TASK]["responses"]
    assert len(shown) == 60
    assert {prompt["group"] for prompt in shown} == {"add", "spell"}
    assert all(set(prompt["responses"]) == set(ACCURACY) for prompt in shown)


def test_provenance_lists_recipe_stages_and_versions(report: Path, numbers: dict[str, Any]) -> None:
    text = (report / "report.md").read_text(encoding="utf-8")
    assert "global_batch_size: 128" in text
    states = {stage["name"]: stage["state"] for stage in numbers["stages"]}
    assert (states["eval/wrpo"], states["prompts"]) == ("done", "missing")
    stage = next(stage for stage in numbers["stages"] if stage["name"] == "eval/wrpo")
    assert len(stage["key_digest"]) == 16
    assert "python" in stage["versions"]


@pytest.mark.usefixtures("empty_charts")
def test_the_report_stage_is_done_and_can_be_made_again(recipe: Recipe, report: Path) -> None:
    assert Pipeline(recipe).state("report") == "done"
    assert report_run(recipe) == report


@pytest.mark.usefixtures("empty_charts")
def test_a_report_made_with_other_settings_is_replaced(tmp_path: Path) -> None:
    recipe = make_run(tmp_path, prompts=40)
    folder = report_run(recipe)
    (folder / "old").touch()
    fewer = recipe.model_copy(update={"arms": {"dpo": recipe.arms["dpo"]}})
    assert Pipeline(fewer).state("report") == "stale"
    report_run(fewer)
    assert Pipeline(fewer).state("report") == "done"
    assert not (folder / "old").exists()


@pytest.mark.usefixtures("empty_charts")
def test_models_not_evaluated_are_listed_and_leave_the_stage_open(tmp_path: Path) -> None:
    recipe = make_run(tmp_path, prompts=40, models=("target", "first", "second", "sft"))
    text = (report_run(recipe) / "report.md").read_text(encoding="utf-8")
    assert "The fused model is not evaluated" in text
    assert "wrpo, missing: `python -m eval.run --model wrpo" in text
    assert Pipeline(recipe).state("report") == "partial"


def test_a_run_without_evaluations_says_how_to_make_them(tmp_path: Path) -> None:
    recipe = make_run(tmp_path, models=())
    recipe = make_run(tmp_path / "other", accuracy={}, models=())
    with pytest.raises(MissingInputError, match=r"eval\.run --model wrpo"):
        report_run(recipe)


def test_a_recipe_without_tasks_has_no_report(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"eval\.suite, eval\.tasks and eval\.judged are empty"):
        report_run(make_recipe(tmp_path, "some/model"))


def test_models_are_compared_on_the_prompts_they_share(tmp_path: Path) -> None:
    recipe = make_run(tmp_path, prompts=40, models=("target", "sft"))
    write_evaluation(Pipeline(recipe), "wrpo", [1.0] * 30)
    (board,) = boards(read_run(recipe))
    assert len(board.ids) == 30
    assert board.column("wrpo", "acc").mean() == 1.0


def test_the_command_line_refuses_flags_that_do_not_go_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.argv", ["report", "--out", "somewhere"])
    with pytest.raises(RecipeError, match="--out goes with --runs"):
        main()
    monkeypatch.setattr("sys.argv", ["report", "seed=2", "--out", "x", "--runs", "a", "b"])
    with pytest.raises(RecipeError, match="no key=value"):
        main()


def test_other_documents_under_the_same_numbers_are_refused(tmp_path: Path) -> None:
    recipe = make_run(tmp_path, prompts=40, models=("target", "sft"))
    write_evaluation(Pipeline(recipe), "wrpo", [1.0] * 40, first_document=1)
    with pytest.raises(DataError, match="document 0 of quiz is another one for wrpo than for targ"):
        boards(read_run(recipe))


def make_board(values: list[list[float]], *, lower: bool = False) -> Board:
    return Board(
        task="quiz",
        models=["a", "b", "wrpo"],
        metrics=["acc"],
        headline=["acc"],
        ids=[("quiz", number) for number in range(len(values))],
        values=np.array(values)[:, :, None],
        groups=[],
        lower_is_better=frozenset({"acc"}) if lower else frozenset(),
        lengths={},
    )


def test_best_source_per_prompt_takes_the_better_source_each_time() -> None:
    board = with_best_source(make_board([[1, 0, 9], [0, 1, 9], [0, 0, 9]]), ["a", "b"])
    assert board.models[-1] == ORACLE
    assert board.column(ORACLE, "acc").tolist() == [1, 1, 0]


def test_best_source_per_prompt_respects_metrics_where_less_is_better() -> None:
    board = with_best_source(make_board([[3, 2, 0]], lower=True), ["a", "b"])
    assert board.column(ORACLE, "acc").tolist() == [2]
    assert board.best(["a", "b"], "acc") == "b"


def test_prompts_are_drawn_evenly_and_always_the_same() -> None:
    ids = [("quiz", number) for number in range(90)]
    groups = ["big"] * 80 + ["small"] * 10
    drawn = draw_evenly(ids, groups, count=20)
    assert drawn == draw_evenly(ids, groups, count=20)
    assert len(set(drawn)) == 20
    assert sum(groups[place] == "small" for place in drawn) == 10


def test_a_small_group_runs_out_without_leaving_gaps() -> None:
    drawn = draw_evenly([("q", n) for n in range(5)], ["a", "a", "a", "a", "b"], count=20)
    assert sorted(drawn) == [0, 1, 2, 3, 4]


def test_long_answers_are_cut_with_a_note() -> None:
    assert shorten("x" * 30, limit=10) == "x" * 10 + " … (20 more characters)"

"""Runs with different seeds, put together."""

import json
import shutil
from pathlib import Path

import pytest

from eval.report import main, report_seeds
from eval.reporting.board import boards
from eval.reporting.compare import with_holm
from eval.reporting.seeds import BEST_SOURCE, judged_alike
from tests.eval.reporting.test_judged_table import JUDGE, add_judgements, judged_run
from tests.eval.synthetic_run import ACCURACY, TASK, make_run
from wrpo.errors import DataError, MissingInputError, RecipeError

SHARES = (0.80, 0.79, 0.81)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three runs; WRPO differs by seed, and the best source is another one in the third."""
    root = tmp_path_factory.mktemp("seeds")
    folders = []
    for seed, share in enumerate(SHARES, start=1):
        accuracy = {**ACCURACY, "wrpo": share}
        if seed == 3:
            accuracy |= {"first": 0.3, "second": 0.5}
        recipe = make_run(root, run=f"run-{seed}", seed=seed, accuracy=accuracy, prompts=100)
        folders.append(recipe.runs / recipe.run)
    return folders


@pytest.mark.usefixtures("empty_charts")
def test_each_seed_counts_once(runs: list[Path], tmp_path: Path) -> None:
    report_seeds(runs, tmp_path)
    task = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["tasks"][TASK]
    assert task["means"]["acc"]["wrpo"] == pytest.approx(list(SHARES))
    assert task["differences"]["acc"]["dpo"] == pytest.approx([0.2, 0.19, 0.21])
    (against_dpo,) = [c for c in task["comparisons"]["acc"] if c["other"] == "dpo"]
    half = 4.302653 * 0.01 / 3**0.5
    assert against_dpo["estimate"]["n"] == 3
    assert against_dpo["estimate"]["value"] == pytest.approx(0.2)
    assert against_dpo["estimate"]["low"] == pytest.approx(0.2 - half, abs=1e-5)


@pytest.mark.usefixtures("empty_charts")
def test_each_run_has_its_own_best_source(runs: list[Path], tmp_path: Path) -> None:
    report_seeds(runs, tmp_path)
    task = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["tasks"][TASK]
    assert task["differences"]["acc"][BEST_SOURCE] == pytest.approx([0.4, 0.39, 0.31])


def test_a_run_that_lacks_a_task_is_named(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "eval.report.boards", lambda r: [] if r.recipe.run == "run-2" else boards(r)
    )
    with pytest.raises(DataError, match="different numbers of tasks: .*'run-2': 0"):
        report_seeds(runs, tmp_path)


def test_the_words_speak_of_seeds(runs: list[Path], tmp_path: Path) -> None:
    report_seeds(runs, tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "WRPO is better than DPO (dpo): acc +0.200" in text
    assert "3 seeds" in text
    assert "No difference shown between WRPO and more SFT (more-sft)" in text
    assert "| DPO (dpo) | +0.200 | +0.190 | +0.210 | +0.200 | 0.010 |" in text
    assert "<svg" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_what_differs_between_the_recipes_is_shown(runs: list[Path], tmp_path: Path) -> None:
    report_seeds(runs, tmp_path)
    content = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert content["recipe_differences"]["run-2"] == ["run: 'run-1' -> 'run-2'", "seed: 1 -> 2"]


def test_the_command_takes_run_folders(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["report", "--runs", *map(str, runs), "--out", str(tmp_path / "all")]
    monkeypatch.setattr("sys.argv", arguments)
    main()
    assert (tmp_path / "all" / "report.html").is_file()


def test_the_same_seed_twice_is_refused(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"seeds \[1, 1\]"):
        report_seeds([runs[0], runs[0]], tmp_path)


def test_one_run_is_no_repetition(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="two run folders"):
        report_seeds(runs[:1], tmp_path)


def test_a_folder_without_a_recipe_is_named(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="not the folder of a run"):
        report_seeds([runs[0], tmp_path], tmp_path / "out")


def test_holm_is_applied_within_one_metric() -> None:
    assert with_holm([]) == []


def test_only_what_the_same_judge_scored_in_every_run_is_put_together(tmp_path: Path) -> None:
    runs = []
    for seed in (1, 2):
        evidence = judged_run(tmp_path, run=f"run-{seed}", seed=seed, prompts=20)
        for model, mean in (("sft", 5.0), ("wrpo", 8.0)):
            add_judgements(evidence, model, mean=mean)
        runs.append(evidence)
    (together,) = judged_alike(runs)
    assert [board.task for board in together] == ["mt_bench, judge judge-70b (2026-01)"] * 2
    for model in ("sft", "wrpo"):
        shutil.rmtree(runs[1].folders[f"judge/mt_bench/{model}"])
        add_judgements(runs[1], model, mean=6.0, judge={**JUDGE, "version": "2026-06"})
    assert judged_alike(runs) == []
    for model in ("sft", "wrpo"):
        shutil.rmtree(runs[1].folders[f"judge/mt_bench/{model}"])
        add_judgements(runs[1], model, mean=6.0, prompt="published")
    assert judged_alike(runs) == [], "another judge prompt is another quantity"

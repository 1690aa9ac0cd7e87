"""Writes the report of a run: verdict in words, scores, curves, data, responses, provenance.

Reads   runs/RUN: every finished stage; one evaluation, by lm-eval or a judge, is what it needs.
Writes  runs/RUN/report: report.html (one file, no network), report.md, report.json (all numbers).
Run     python -m eval.report --recipe RECIPE [key=value ...]
        python -m eval.report --runs runs/demo-seed-1 runs/demo-seed-2 ... --out DIR
Resume  nothing to resume; each call writes the report again.

The second form puts runs of one recipe with different seeds together: mean and spread over seeds,
and the fused model against each other with an interval over seeds.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from eval.harness.results import EvaluatedSample
from eval.reporting.account import Accounts
from eval.reporting.board import Board, boards
from eval.reporting.compare import Comparison, compare, win_matrix
from eval.reporting.curves import panels
from eval.reporting.data_facts import data_facts
from eval.reporting.evidence import Evidence, read_run, read_run_folder
from eval.reporting.html import write_report
from eval.reporting.judged_table import for_papers, judged_tables
from eval.reporting.page import Block, Heading, Paragraph
from eval.reporting.papers import papers as papers_of
from eval.reporting.sections import (
    account,
    data,
    judged,
    papers,
    provenance,
    responses,
    scores,
    training,
    verdict,
)
from eval.reporting.sections.responses import PROMPTS_SHOWN, side_by_side
from eval.reporting.sections.seeds import seeds
from eval.reporting.seeds import SeedScores, judged_alike, recipe_differences, seed_scores
from wrpo.cli import run_main, stage_parser
from wrpo.errors import DataError, RecipeError
from wrpo.pipeline.evaluation_stages import model_names
from wrpo.pipeline.folder import read_manifest
from wrpo.pipeline.parts import open_stage
from wrpo.recipe import Recipe, load_recipe
from wrpo.recipe.resolved import answering_sources
from wrpo.recipe.suite import evaluated_tasks
from wrpo.statistics.estimates import Estimate

STAGE = "report"


def main() -> None:
    """Parses the command line and writes the report."""
    parser = stage_parser(__doc__)
    parser.add_argument(
        "--runs", type=Path, nargs="+", metavar="DIR", help="run folders to put together"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where --runs writes")
    args = parser.parse_intermixed_args()
    if args.runs is None:
        if args.out is not None:
            raise RecipeError("--out goes with --runs; the report of one run goes into its folder")
        report_run(load_recipe(args.recipe, args.overrides))
        return
    if args.out is None or args.overrides:
        raise RecipeError(
            "--runs needs --out DIR and takes no key=value: each run folder has its own recipe"
        )
    report_seeds(args.runs, args.out)


def report_run(recipe: Recipe) -> Path:
    """Writes the report of one run and returns its folder.

    Raises:
        RecipeError: the recipe has no benchmarks.
        MissingInputError: nothing is evaluated yet.
    """
    evidence = read_run(recipe)
    numbers, blocks = build_report(evidence)
    with open_stage(evidence.pipeline, STAGE, remake=True) as work:
        write_report(work.path, f"Run {recipe.run}", numbers, blocks)
        work.facts["models"] = len(model_names(recipe))
        if evidence.missing():
            work.leave_unfinished()
    return work.path


def build_report(evidence: Evidence) -> tuple[dict[str, Any], list[Block]]:
    """All numbers of the report, and the page made of them."""
    recipe, accounts = evidence.recipe, Accounts(evidence)
    found, judged_by = boards(evidence), judged_tables(evidence)
    numbers: dict[str, Any] = {"run": recipe.run, "seed": recipe.seed, "tasks": {}, "judged": {}}
    comparisons: list[list[Comparison]] = []
    tables: list[Block] = []
    examples: list[Block] = []
    count = math.ceil(PROMPTS_SHOWN / (len(found) + len(judged_by)))
    for board in found:
        facts = _task_numbers(board)
        what = recipe.eval.group_by or "task"
        tables += scores.scores(recipe, board, facts["scores"])
        tables += _against_each_other(accounts, board, facts, comparisons, what=what)
        examples += _examples(recipe, board, evidence.samples, facts, count)
        numbers["tasks"][board.task] = facts
    for table in judged_by:
        facts = {"judge": table.judge, "results": table.results}
        tables += judged.judged(recipe, table)
        board_of_judge = table.board()
        if board_of_judge is not None:
            facts |= _task_numbers(board_of_judge)
            tables += _against_each_other(
                accounts, board_of_judge, facts, comparisons, what="category"
            )
            examples += _examples(recipe, board_of_judge, table.samples, facts, count)
        numbers["judged"][table.title] = facts
    by_task = {task: facts["scores"] for task, facts in numbers["tasks"].items()}
    numbers |= _numbers_of_run(evidence, accounts)
    numbers["papers"] = papers_of(recipe, by_task, for_papers(judged_by))
    blocks = [
        Heading(f"Run {recipe.run}", 1),
        Paragraph(_introduction(recipe)),
        *verdict.verdict(comparisons, evidence.missing()),
        *account.budget_note([accounts]),
        *scores.across(recipe, found, by_task),
        *tables,
        *papers.papers_section(recipe, numbers["papers"]),
        *training.training_section(evidence),
        *account.account(accounts),
        *data.data(numbers["data"]),
        Heading("Responses side by side"),
        *examples,
        *provenance.provenance(evidence, numbers["stages"], judges_cost=judged.cost(judged_by)),
    ]
    return numbers, blocks


def _numbers_of_run(evidence: Evidence, accounts: Accounts) -> dict[str, Any]:
    """What is of no single benchmark."""
    return {
        "training": {name: panels(log) for name, log in evidence.histories.items()},
        "data": data_facts(evidence),
        "stages": stage_facts(evidence),
        "account": {name: asdict(cost) for name, cost in accounts.costs.items()},
        "not_evaluated": evidence.missing(),
    }


def _against_each_other(
    accounts: Accounts,
    board: Board,
    facts: dict[str, Any],
    comparisons: list[list[Comparison]],
    *,
    what: str,
) -> list[Block]:
    """Groups and wins of one board as blocks; its comparisons join those of the verdict."""
    recipe = accounts.evidence.recipe
    facts["comparisons"] = {metric: compare(recipe, board, metric) for metric in board.headline}
    comparisons += [found for found in facts["comparisons"].values() if found]
    return [
        *scores.by_group(recipe, board, facts["groups"], what=what),
        *scores.who_beats_whom(recipe, board, facts["wins"]),
        *account.same_budgets(accounts),
    ]


def _examples(
    recipe: Recipe,
    board: Board,
    samples: dict[str, list[EvaluatedSample]],
    facts: dict[str, Any],
    count: int,
) -> list[Block]:
    facts["responses"] = side_by_side(samples, board, count=count)
    return responses.responses(recipe, board, facts["responses"])


def stage_facts(evidence: Evidence) -> list[dict[str, Any]]:
    """State, time, key digest and versions of every stage, in pipeline order."""
    facts = []
    for name, state in evidence.states.items():
        if name == STAGE:
            continue
        kind = evidence.pipeline[name].kind
        entry: dict[str, Any] = {"name": name, "kind": kind, "state": state}
        if name in evidence.folders:
            manifest = read_manifest(evidence.folders[name]) or {}
            wanted = ("written", "seconds", "key_digest", "versions", "command", "rows")
            entry |= {field: manifest[field] for field in wanted if field in manifest}
        facts.append(entry)
    return facts


def _task_numbers(board: Board) -> dict[str, Any]:
    groups: dict[str, dict[str, dict[str, Estimate]]] = {}
    names = sorted(set(board.groups))
    if len(names) > 1:
        groups = {
            metric: {name: board.estimates(metric, group=name) for name in names}
            for metric in board.headline
        }
    return {
        "prompts": len(board.ids),
        "primary_metric": board.primary,
        "scores": {metric: board.estimates(metric) for metric in board.metrics},
        "groups": groups,
        "wins": win_matrix(board, board.primary),
    }


def _introduction(recipe: Recipe) -> str:
    sources = ", ".join(answering_sources(recipe))
    return f"Sources {sources} teach the target. Seed {recipe.seed}. {recipe.wrpo.summary()}."


def report_seeds(folders: list[Path], out: Path) -> None:
    """Writes the report over several runs into `out`.

    Raises:
        MissingInputError: a folder is not a run, or has no evaluations.
        DataError: the runs were evaluated on different tasks, or are not of different seeds.
    """
    runs = [read_run_folder(folder) for folder in folders]
    _check_same_kind(runs)
    recipes = [run.recipe for run in runs]
    by_run = [boards(run) for run in runs]
    counts = {run.recipe.run: len(found) for run, found in zip(runs, by_run, strict=True)}
    if len(set(counts.values())) > 1:
        raise DataError(f"the runs have results of different numbers of tasks: {counts}")
    by_task = [seed_scores(recipes, list(found)) for found in zip(*by_run, strict=True)]
    by_task += [seed_scores(recipes, found) for found in judged_alike(runs)]
    write_report(out, f"{len(runs)} seeds", _numbers(by_task, recipes), seeds(by_task, runs))


def _check_same_kind(runs: list[Evidence]) -> None:
    if len(runs) < 2:
        raise RecipeError("--runs needs two run folders or more")
    tasks = {run.recipe.run: evaluated_tasks(run.recipe.eval) for run in runs}
    if len({tuple(names) for names in tasks.values()}) > 1:
        raise DataError(f"the runs were evaluated on different tasks: {tasks}")
    used = [run.recipe.seed for run in runs]
    if len(set(used)) < len(used):
        raise DataError(
            f"the runs have the seeds {used}; repeats need a seed each: make run RECIPE=... "
            "SET='seed=N run=NAME'"
        )


def _numbers(by_task: list[SeedScores], recipes: list[Recipe]) -> dict[str, Any]:
    return {
        "runs": {recipe.run: recipe.seed for recipe in recipes},
        "tasks": {
            scores.board.task: {
                "means": scores.means,
                "differences": scores.differences,
                "comparisons": {
                    metric: scores.comparisons(metric) for metric in scores.differences
                },
            }
            for scores in by_task
        },
        "recipe_differences": recipe_differences(recipes),
    }


if __name__ == "__main__":
    run_main(main)

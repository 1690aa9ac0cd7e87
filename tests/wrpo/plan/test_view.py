"""What a plan shows: it fits the terminal, its sums agree, it says what is next."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wrpo.plan.test_estimate import KNOWN, begin_sampling, pipeline_of, prices
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.status import run_status
from wrpo.plan.estimate import Estimator
from wrpo.plan.throughput import read_throughput
from wrpo.plan.view import (
    TEXT_WIDTH,
    amounts_of,
    decimals_of,
    explanation,
    left_of,
    plan_text,
    total,
)
from wrpo.plan.work import StageEstimate, Term
from wrpo.recipe import load_recipe

RECIPES = Path(__file__).parents[3] / "recipes"
SHIPPED = [
    path
    for path in (
        *RECIPES.glob("*.yaml"),
        *RECIPES.glob("fusechat3/*.yaml"),
        *RECIPES.glob("one-gpu/*.yaml"),
    )
    if path.name not in ("throughput.yaml", "base.yaml")
]

hours = st.floats(0, 1e4, allow_subnormal=False)
terms = st.builds(Term, st.just("work"), gpu_hours=st.none() | hours, dollars=st.none() | hours)
estimates = st.lists(
    st.builds(
        StageEstimate,
        st.just("stage"),
        terms=st.lists(terms, max_size=4).map(tuple),
        gpus=st.integers(0, 8),
        gpu_price=st.floats(0, 10),
        left=st.floats(0, 1),
    ),
    max_size=6,
)


def numbers(text: str) -> list[float]:
    return [float(found.replace(",", "")) for found in re.findall(r"[\d,]+\.\d+", text)]


@given(estimates)
def test_terms_add_up_to_stages_and_stages_to_the_run(found: list[StageEstimate]) -> None:
    decimals = decimals_of(found)
    for estimate in found:
        amounts = amounts_of(estimate, decimals)
        shown = [f"{term.gpu_hours or 0:.{decimals}f}" for term in estimate.terms]
        assert f"{sum(map(float, shown)):.{decimals}f}" == f"{amounts.gpu_hours:.{decimals}f}"
        half = 0.5 * 10.0**-decimals
        exact = estimate.gpu_hours or 0.0
        assert abs(amounts.gpu_hours - exact) <= half * len(estimate.terms) + 1e-6
        assert left_of(estimate, decimals).dollars <= amounts.dollars + half
    whole = total([amounts_of(each, decimals) for each in found])
    shown = [f"{amounts_of(each, decimals).dollars:.{decimals}f}" for each in found]
    assert f"{sum(map(float, shown)):.{decimals}f}" == f"{whole.dollars:.{decimals}f}"


def table_of(lines: list[str]) -> list[list[str]]:
    """Cells of the rows from the first stage to the line above the sums, names apart."""
    start = next(n for n, line in enumerate(lines) if line.startswith("stage"))
    end = next(n for n, line in enumerate(lines) if line.startswith("  ---"))
    rows = []
    for line in lines[start + 1 : end]:
        found = re.search(r" (done|missing|stale|partial \S+ \w+) +(.*)$", line)
        assert found, line
        rows.append(re.sub(r"(\d+) x ", r"\1x", found[2]).split())
    return rows


JUDGED = (
    "eval.suite=fusechat3",
    "judges={j: {model: m, engine: {endpoints: ['http://x/v1']}}}",
    "judges.j.engine.input_price=10",
    "judges.j.engine.output_price=30",
    "eval.judged={alpaca_eval_2: {judge: j}, arena_hard: {judge: j}, mt_bench: {judge: j}}",
)


@pytest.mark.parametrize("overrides", [(), JUDGED], ids=["shipped", "judged"])
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipes_fit_the_terminal_and_their_columns_add_up(
    path: Path, overrides: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(RECIPES.parent)
    pipeline = Pipeline(load_recipe(path, overrides))
    table = read_throughput(RECIPES / "throughput.yaml")
    estimator = Estimator(pipeline, table, (), kind="h100")
    found = [estimator.stage(name) for name in pipeline.stages]
    lines = plan_text(pipeline, run_status(pipeline), found, kind="h100")
    deeper = 10 * (pipeline.recipe.rounds - 1)  # a round hangs below the one before
    revisers = {one.by for one in pipeline.recipe.revise.values()}
    deeper += 8 * bool(revisers & set(pipeline.recipe.arms))  # the stages of one that is trained
    assert max(len(line) for line in lines if "python -m" not in line) <= TEXT_WIDTH + deeper
    rows = table_of(lines)
    assert len(rows) == len(pipeline.stages)
    for place, sum_ in enumerate(numbers(next(x for x in lines if x.startswith("  whole run")))):
        cells = [row[1 + place].replace(",", "") for row in rows]
        added = sum(float(cell) for cell in cells if cell not in ("-", "?"))
        assert added == pytest.approx(sum_, abs=1e-6)
    commands = [line.strip() for line in lines if line.startswith("  python -m")]
    assert sorted(commands) == sorted(pipeline.shell_command(name) for name in pipeline.stages)


def test_the_arithmetic_that_is_shown_adds_up(tmp_path: Path) -> None:
    found = list(prices(pipeline_of(tmp_path, *KNOWN)).values())
    decimals = decimals_of(found)
    for estimate in found:
        shown = explanation(estimate, kind="fast", decimals=decimals)
        parts = [
            numbers(line.rsplit("= ", 1)[1])[0] for line in shown if line.endswith(" GPU hours")
        ]
        sums = [line for line in shown if " GPU hours x $" in line]
        assert len(sums) == (1 if parts else 0)
        if parts:
            added = sums[0].split(" GPU hours x")[0].split(" = ")[-1]
            assert sum(parts) == pytest.approx(float(added), abs=1e-9)
            assert float(added) == pytest.approx(amounts_of(estimate, decimals).gpu_hours)
        for line in shown:
            if line.startswith("memory"):
                sum_ = re.search(r" = ([\d,.]+\d)", line)
                addends = re.findall(r"(?:: |\+ )[a-z ]+ ([\d,]+\.\d)", line)
                assert sum_ and len(addends) >= 2
                assert sum(map(float, addends)) == pytest.approx(float(sum_[1]))


def test_a_run_that_is_under_way(tmp_path: Path) -> None:
    pipeline = pipeline_of(tmp_path, *KNOWN)
    begin_sampling(pipeline)
    stages = run_status(pipeline)
    lines = plan_text(pipeline, stages, list(prices(pipeline).values()), kind="fast", explain=True)
    assert lines[0].endswith(f"{len(stages)} stages, 1 done, 1 partial, {len(stages) - 2} missing")
    assert any(re.search(r"^  prompts +done ", line) for line in lines)
    assert any(re.search(r"^> ├ sample/letters +partial 1/2 parts ", line) for line in lines)
    assert any("50.0% of it is left" in line for line in lines)
    next_ = lines.index("Can start now (>), or all that is missing by `run` instead of `plan`:")
    ready = ("sample/letters", "sample/numbers", "eval/target")
    expected = [pipeline.shell_command(name) for name in ready if name in pipeline.stages]
    assert [line.strip() for line in lines[next_ + 1 :]] == expected


def test_a_stage_of_other_settings_is_stale_and_wholly_left(tmp_path: Path) -> None:
    begin_sampling(pipeline_of(tmp_path, *KNOWN))
    pipeline = pipeline_of(tmp_path, *KNOWN, "seed=7")
    found = prices(pipeline)
    lines = plan_text(pipeline, run_status(pipeline), list(found.values()), kind="fast")
    assert any(re.search(r"sample/letters +stale ", line) for line in lines)
    assert found["sample/letters"].left == found["prompts"].left == 1.0


def test_without_a_table_of_speeds_the_tree_is_shown(tmp_path: Path) -> None:
    pipeline = pipeline_of(tmp_path)
    lines = plan_text(pipeline, run_status(pipeline), [], kind=None)
    assert "> prompts" in lines[3]
    assert any(line.startswith("no prices") for line in lines)

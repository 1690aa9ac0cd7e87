"""The papers' numbers beside a run's."""

from pathlib import Path

import pytest
import yaml

from eval.reporting.page import PageTable, markdown
from eval.reporting.papers import NUMBERS, JudgedNumbers, papers
from eval.reporting.sections.papers import papers_section as section
from wrpo.recipe import Recipe, load_recipe
from wrpo.recipe.suite import load_suite
from wrpo.statistics.estimates import Estimate

ROOT = Path(__file__).parents[3]
PUBLISHED = yaml.safe_load(NUMBERS.read_text(encoding="utf-8"))
LLAMA = ROOT / "recipes" / "llama3-8b-wrpo.yaml"
PAPERS_JUDGE = "gpt-4-1106-preview"
FUSECHAT = ROOT / "recipes" / "fusechat3" / "llama31-8b.yaml"


def estimate(value: float) -> Estimate:
    return Estimate(value, value - 0.02, value + 0.02, 500)


@pytest.fixture(scope="module")
def fusechat() -> Recipe:
    return load_recipe(FUSECHAT)


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_model_has_a_number_for_every_benchmark(name: str) -> None:
    facts = PUBLISHED[name]
    assert {len(row) for row in facts["models"].values()} == {len(facts["rows"])}
    assert set(facts["shown"]) <= set(facts["models"])


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name.startswith("fusechat3")])
def test_averages_are_those_of_their_columns(name: str) -> None:
    """The published averages are plain means, so a slip in copying a number shows."""
    facts = PUBLISHED[name]
    assert facts["rows"][-1][0] == "average"
    for *numbers, average in facts["models"].values():
        assert sum(numbers) / len(numbers) == pytest.approx(average, abs=0.06)


@pytest.mark.parametrize("name", PUBLISHED)
def test_benchmarks_are_those_of_the_suites(name: str) -> None:
    known = {*load_suite(PUBLISHED[name]["suite"]).benchmarks, "average", "mmlu"}
    assert {benchmark for benchmark, _, _ in PUBLISHED[name]["rows"]} <= known


def test_only_the_paper_of_the_runs_target_is_shown(fusechat: Recipe) -> None:
    (wrpo,) = papers(load_recipe(LLAMA), {}, {})
    assert wrpo.title.startswith("WRPO")
    (found,) = papers(fusechat, {}, {})
    assert "Llama-3.1-8B" in found.title
    assert section(load_recipe(ROOT / "recipes" / "demo.yaml"), []) == []


def test_our_numbers_stand_in_columns_of_their_own_in_percent(fusechat: Recipe) -> None:
    scores = {"gsm8k_boxed": {"math_verify (flexible)": {"wrpo": estimate(0.861)}}}
    blocks = section(fusechat, papers(fusechat, scores, {}))
    (table,) = [block for block in blocks if isinstance(block, PageTable)]
    row = next(row for row in table.rows if row[0] == "GSM8K")
    assert table.header[1:3] == ["this run: fused model (DPO)", "paper: Target before"]
    assert row[1:5] == ["86.1 [84.1, 88.1]", "85.9", "87.0", "88.0"]
    assert row[5].startswith("`gsm8k_boxed`. Close.")
    other = next(row for row in table.rows if row[0] == "MATH")
    assert other[1] == "–"
    assert other[-1].startswith("Not evaluated in this run.")


def test_a_smaller_task_for_the_same_benchmark_is_said_to_be_not_comparable(
    fusechat: Recipe,
) -> None:
    scores = {"minerva_math500": {"math_verify": {"wrpo": estimate(0.5)}}}
    (found,) = papers(fusechat, scores, {})
    row = next(row for row in found.rows if row.benchmark == "MATH")
    assert row.differs.startswith("Not comparable. 500 of the 5000 problems")


def test_judged_numbers_name_our_judge_beside_the_papers(fusechat: Recipe) -> None:
    numbers = JudgedNumbers(
        "judge-70b",
        {"score": {"wrpo": estimate(8.25)}},
        model="judge-70b",
        prompt="own",
        decoding={"temperature": None, "max_tokens": 4096},
    )
    judged = {"mt_bench": numbers}
    text = markdown(section(fusechat, papers(fusechat, {}, judged)))
    line = next(line for line in text.splitlines() if line.startswith("| MT-Bench |"))
    assert "| 8.2 [8.2, 8.3] | 8.4 | 8.5 | 9.0 |" in line
    assert "Our judge: judge-70b." in line
    assert "Not comparable." in line
    told = "In this run: judge judge-70b, not gpt-4-0125-preview; this toolkit's own judge prompt."
    assert told in line
    assert "gpt-4-0125-preview" in text


def test_whatever_differs_from_the_suite_makes_a_number_not_comparable(fusechat: Recipe) -> None:
    stated = {"temperature": 0.6, "top_p": 0.9, "presence_penalty": 0.1, "frequency_penalty": 0.1}

    def differs(prompt: str = "published", model: str = PAPERS_JUDGE, **drawn: float) -> str:
        metrics = {"length_controlled_winrate": {"wrpo": estimate(50.0)}}
        decoding = {"max_tokens": 4096, **(drawn or stated)}
        numbers = JudgedNumbers("j", metrics, model=model, prompt=prompt, decoding=decoding)
        (found,) = papers(fusechat, {}, {"alpaca_eval_2": numbers})
        return found.rows[0].differs

    assert differs().startswith("Close.") and "In this run" not in differs()
    assert differs("clf.txt").endswith("prompt of clf.txt is taken as the published one.")
    assert differs("own").startswith("Not comparable.")
    assert "judge tiny, not gpt-4-1106-preview" in differs(model="tiny")
    other = differs(temperature=0.9, top_p=0.9)
    assert other.startswith("Not comparable.")
    assert "temperature 0.9 (not 0.6), presence_penalty 0.0 (not 0.1)" in other


def test_a_limit_on_documents_makes_a_number_not_comparable(fusechat: Recipe) -> None:
    scores = {"gsm8k_boxed": {"math_verify (flexible)": {"wrpo": estimate(0.861)}}}
    few = fusechat.model_copy(update={"eval": fusechat.eval.model_copy(update={"limit": 10})})
    (found,) = papers(few, scores, {})
    row = next(row for row in found.rows if row.benchmark == "GSM8K")
    assert row.differs.startswith("Not comparable.")
    assert row.differs.endswith("In this run: only the first 10 questions.")

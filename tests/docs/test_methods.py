"""The table of docs/methods.md has every method that the code knows, with its file and a recipe."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest

from tests.conftest import REPOSITORY
from tests.support.recipe_files import tiny_recipe
from wrpo.benchmarks.base import BenchmarkSettings
from wrpo.merging.base import MergeSettings
from wrpo.objectives.base import ObjectiveSettings, TrainedTable
from wrpo.objectives.options import LOSSES
from wrpo.pipeline.stage import MODULES
from wrpo.recipe.fusions import ModelFusion
from wrpo.recipe.prompts import Dataset, PromptDataset
from wrpo.rewards.base import RewardSettings
from wrpo.settings import Section, kinds_in

PAGE = (REPOSITORY / "docs" / "methods.md").read_text(encoding="utf-8")
JUDGE = """\
judges:
  big:
    model: hub/judge
    engine: {endpoints: ["http://localhost:1"]}
"""


class Method(NamedTuple):
    """One row of the table, its cells as text."""

    name: str
    paper: str
    room: str
    recipe: str
    verified: str
    measured: str
    cost: str

    @property
    def overrides(self) -> list[str]:
        return [code for code in re.findall(r"`([^`]+)`", self.recipe) if not code.startswith("py")]


def methods() -> list[Method]:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")][1:]
    return [Method(*(cell.strip() for cell in row.strip("|").split("|"))) for row in rows]


METHODS = methods()


def kinds() -> Iterator[tuple[str, str | None]]:
    """What stands in the recipe of a row, and the file that the row must name."""
    found: list[tuple[str, type[Any], str]] = [
        ("wrpo.objectives", ObjectiveSettings, "objective"),
        ("wrpo.merging", MergeSettings, "method"),
        ("wrpo.rewards", RewardSettings, "type"),
    ]
    for package, base, tag in found:
        for name, kind in kinds_in(package, base, tag=tag).items():
            yield f"{tag}: {name}", file_of(kind)
    for name, kind in kinds_in("wrpo.benchmarks", BenchmarkSettings, tag="benchmark").items():
        yield f"eval.judged.{name}=", file_of(kind)
    for method in get_args(ModelFusion.model_fields["method"].annotation):
        yield f"method: {method}", None
    yield from ((f"data: {table}", None) for table in get_args(TrainedTable))
    yield from ((f"loss: {loss}", None) for loss in LOSSES)
    for name, field in PromptDataset.model_fields.items():  # where prompts may come from
        parts = get_args(field.annotation)
        sections = [p for p in parts if isinstance(p, type) and issubclass(p, Section)]
        if sections and name not in Dataset.model_fields and name != "filters":
            yield f"{name}:", None


def file_of(kind: type[Any]) -> str:
    return kind.__module__.replace(".", "/") + ".py"


@pytest.mark.parametrize("known", kinds(), ids=lambda known: known[0])
def test_every_kind_has_a_row(known: tuple[str, str | None]) -> None:
    text, file = known
    rows = [row for row in METHODS if re.search(rf"(?<!\w){re.escape(text)}(?!\w)", row.recipe)]
    assert rows, f"docs/methods.md has no row whose recipe says {text}"
    assert file is None or any(file in row.room for row in rows)


@pytest.mark.parametrize("kind", MODULES)
def test_every_kind_of_stage_is_named(kind: str) -> None:
    module = MODULES[kind].replace(".", "/")  # type: ignore[index]
    assert f"`{module}.py`" in PAGE or f"`{module}/" in PAGE


@pytest.mark.parametrize("method", METHODS, ids=lambda one: one.name)
def test_every_row_is_whole_its_files_are_there_and_its_recipe_loads(
    method: Method, tmp_path: Path
) -> None:
    assert all(method)
    files = re.findall(r"`([^`]+)`", method.room)
    assert files and all((REPOSITORY / file).is_file() for file in files)
    assert "arXiv" not in method.paper or re.search(r"arXiv \d{4}\.\d{5}", method.paper)
    if method.overrides:
        tiny_recipe(tmp_path, *method.overrides, extra=JUDGE)
    else:
        assert "`python -m " in method.recipe


def test_the_demos_figures_are_those_of_their_pages() -> None:
    demo = [
        (REPOSITORY / "docs" / name).read_text()
        for name in (
            "which-objective.md",
            "objectives.md",
            "alternatives.md",
            "merging.md",
            "revision.md",
        )
    ]
    given = {figure for row in METHODS for figure in re.findall(r"0\.\d{3}", row.measured)}
    assert len(given) > 10
    for figure in given:
        assert any(figure in page for page in demo), figure

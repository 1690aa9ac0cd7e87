"""The tree of stages: each stage once, under what it has to wait for."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.support.recipe_files import tiny_recipe
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.stage import Stage
from wrpo.pipeline.tree import Line, tree_lines, waits_for


@st.composite
def pipelines(draw: st.DrawFn) -> dict[str, list[str]]:
    """Stages whose inputs stand before them."""
    inputs: dict[str, list[str]] = {}
    for number in range(draw(st.integers(1, 12))):
        known = list(inputs)
        chosen = st.lists(st.sampled_from(known), unique=True, max_size=4) if known else st.just([])
        inputs[f"s{number}"] = draw(chosen)
    return inputs


def as_stages(inputs: dict[str, list[str]]) -> dict[str, Stage]:
    return {name: Stage("train", {"arm": name}, tuple(read)) for name, read in inputs.items()}


def parents(lines: list[Line]) -> dict[str, str | None]:
    """Parent of each stage as a reader of the indentation finds it."""
    path: list[str] = []
    found: dict[str, str | None] = {}
    for line in lines:
        depth, rest = divmod(len(line.branch), 2)
        assert rest == 0
        path = [*path[:depth], line.name]
        found[line.name] = path[-2] if depth else None
    return found


def above(name: str, inputs: dict[str, list[str]]) -> set[str]:
    """Everything that must be done before a stage, by the plain definition."""
    return set(inputs[name]).union(*(above(other, inputs) for other in inputs[name]))


@given(pipelines())
def test_each_stage_stands_once_under_what_must_be_done_before_it(
    inputs: dict[str, list[str]],
) -> None:
    lines = tree_lines(as_stages(inputs))
    assert sorted(line.name for line in lines) == sorted(inputs)
    for name, parent in parents(lines).items():
        assert parent is None or parent in above(name, inputs)


@given(pipelines())
def test_the_only_stage_that_is_waited_for_is_the_parent(inputs: dict[str, list[str]]) -> None:
    found = parents(tree_lines(as_stages(inputs)))
    for name in inputs:
        waited = waits_for(name, as_stages(inputs))
        assert set(waited) <= set(inputs[name])
        # What is left out is done anyway: waiting for the rest is waiting for all.
        assert above(name, inputs) == set(waited).union(*(above(other, inputs) for other in waited))
        if len(waited) == 1:
            assert found[name] == waited[0]


@given(pipelines())
def test_a_join_stands_under_the_nearest_stage_that_its_branches_share(
    inputs: dict[str, list[str]],
) -> None:
    found = parents(tree_lines(as_stages(inputs)))

    def path(name: str | None) -> list[str]:
        return [] if name is None else [*path(found[name]), name]

    for name in inputs:
        waited = waits_for(name, as_stages(inputs))
        if len(waited) > 1:
            shared = set.intersection(*(set(path(other)) for other in waited))
            assert path(found[name]) == [step for step in path(waited[0]) if step in shared]


def test_the_stages_of_a_small_recipe(tmp_path: Path) -> None:
    stages = Pipeline(tiny_recipe(tmp_path, "eval.tasks=[gsm8k]", "eval.sources=false")).stages
    lines = tree_lines(stages)
    assert [line.text for line in lines] == [
        "prompts",
        "├ sample/letters",
        "│ └ score/letters",
        "├ sample/numbers",
        "│ └ score/numbers",
        "└ build/sft (after 2 score)",
        "  └ sft",
        "    ├ sample/target",
        "    │ └ score/target",
        "    │   └ build/triples",
        "    │     └ logprobs/sft/triples",
        "    │       └ wrpo",
        "    │         └ eval/wrpo",
        "    └ eval/sft",
        "eval/target",
        "report (after 3 eval)",
    ]

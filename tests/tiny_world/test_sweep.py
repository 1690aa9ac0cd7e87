"""Each level is a recipe that differs from the demo in one thing; table and figures show all."""

from pathlib import Path

import pytest

from tiny_world.demo import demo_overrides
from tiny_world.sweep import ARMS, MODELS, Scores, dials, draw, table
from wrpo.recipe import load_recipe

WORLD = Path("world")
ONLY = {
    "sources": {"sources"},
    "gap": {"sft"},
    "noise": {"rewards"},
    "prompts": {"prompts"},
}


@pytest.mark.parametrize(
    ("name", "level"),
    [(name, level) for name, dial in dials(WORLD).items() for level in dial.levels],
)
def test_a_level_changes_one_section_of_the_demo(name: str, level: str) -> None:
    fixed = demo_overrides(1, WORLD)
    recipe = Path("recipes/demo.yaml")
    demo = load_recipe(recipe, fixed).model_dump()
    changes = dials(WORLD)[name].levels[level]
    changed = load_recipe(recipe, [*fixed, *changes]).model_dump()
    differing = {section for section in demo if demo[section] != changed[section]}
    assert differing == (ONLY[name] if changes else set())


def test_every_dial_has_the_demo_itself_as_a_level() -> None:
    for dial in dials(WORLD).values():
        assert sum(not changes for changes in dial.levels.values()) == 1


def scores(reward: float, lead: float = 0.0) -> Scores:
    found = {
        model: {"acc": 0.1 * place, "reward": reward + 0.01 * place}
        for place, model in enumerate(MODELS)
    }
    found["wrpo"]["reward"] = found["more-sft-better"]["reward"] + lead
    return found


def test_the_table_has_means_over_seeds_and_the_lead_of_wrpo() -> None:
    found = {"gap": {"5": [scores(3.0, 0.1), scores(3.2, 0.3)], "13": [scores(3.5, 0.4)]}}
    lines = table(found).splitlines()
    assert len(lines) == 4
    assert lines[2].startswith("| steps of SFT before | 5 | 0.000, 3.320 | 0.100, 3.110 |")
    assert lines[2].endswith("| +0.200 (-1.071 to +1.471) |")
    assert lines[3].endswith("| +0.400 |")


def test_a_figure_names_every_model_and_level(tmp_path: Path) -> None:
    found = {name: {level: [scores(3.0)] for level in ("1", "2")} for name in ("sources", "gap")}
    draw(found, tmp_path / "figure.svg")
    text = (tmp_path / "figure.svg").read_text()
    for shown in (*MODELS.values(), "number of sources", "steps of SFT before"):
        assert shown in text
    assert set(ARMS) < set(MODELS)

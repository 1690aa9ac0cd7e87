"""A trained model can be handed on: its card, the target's `use_cache`, and no pickles."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from transformers import AutoConfig, AutoModelForCausalLM

from tests.support.recipe_files import tiny_recipe
from wrpo.pipeline.folder import StageFolder
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import SFT_ROWS
from wrpo.recipe import Recipe, load_recipe
from wrpo.recipe.sampling import Model
from wrpo.train_sft import train_sft
from wrpo.training.model_card import CARD, model_card, stated_licence

HEADER = "---\nlicense: other\nlicense_name: tiny\nlicense_link: https://example.org/tiny\n---\n"


def header_of(card: str) -> dict[str, object]:
    read: dict[str, object] = yaml.safe_load(card.split("---\n")[1])
    return read


@pytest.fixture
def licensed(write_recipe: Callable[..., Path], tmp_path: Path) -> Recipe:
    """A recipe whose target has a card, and turns its cache off while it trains."""
    path = write_recipe(
        sft={
            "global_batch_size": 2,
            "engine": {"per_device_batch_size": 2},
            "train": {"max_steps": 1, "save_strategy": "no", "gradient_checkpointing": True},
        }
    )
    target = tmp_path / "the-target"
    shutil.copytree(load_recipe(path).target.model, target)
    (target / CARD).write_text(HEADER + "# Tiny\n")
    return load_recipe(path, [f"target.model={target}"])


def write_sft_rows(recipe: Recipe) -> None:
    pipeline = Pipeline(recipe)
    folder = StageFolder(pipeline.folder("build/sft"), pipeline.key("build/sft"))
    folder.open()
    row = {
        "prompt_id": "p",
        "prompt": [{"role": "user", "content": "Say."}],
        "completion": [{"role": "assistant", "content": "sea"}],
        "source": "one",
        "index": 0,
        "score": 1.0,
    }
    folder.finish_parts(folder.write_table([row] * 4, SFT_ROWS))


def test_a_trained_folder_is_a_model_and_nothing_of_its_training(licensed: Recipe) -> None:
    write_sft_rows(licensed)
    train_sft(licensed)
    folder = Pipeline(licensed).finished("sft") / "model"
    assert AutoConfig.from_pretrained(licensed.target.model).use_cache is True
    assert json.loads((folder / "config.json").read_text())["use_cache"] is True
    assert AutoModelForCausalLM.from_pretrained(folder).config.use_cache is True
    pickles = [path.name for path in folder.rglob("*") if path.suffix in (".bin", ".pt", ".pth")]
    assert not pickles
    card = (folder / CARD).read_text()
    header = header_of(card)
    assert (header["license"], header["license_name"]) == ("other", "tiny")
    assert "base_model" not in header  # the target is a folder here, which means nothing elsewhere
    assert "steps: 1" in card and "the-target#" in card and "| source | two |" in card
    assert str(folder.parents[2]) not in card and licensed.target.model not in card


def test_the_card_of_an_arm_states_its_objective_and_the_target_of_the_hub(tmp_path: Path) -> None:
    extra = "arms:\n  base:\n    objective: dpo\n"
    recipe = tiny_recipe(tmp_path, "target.model=owner/name", extra=extra)
    card = model_card(recipe, "base", facts={"rows": 3})
    assert header_of(card)["base_model"] == "owner/name"
    assert "license" not in header_of(card) and "No card of `owner/name@main` states one" in card
    assert '"objective": "dpo"' in card and "rows: 3" in card
    assert "`hub/letters@main`" in card and "`hub/prompts`" in card


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        (HEADER, {"license": "other", "license_name": "tiny"}),
        ("---\nlicense: mit\n---\n", {"license": "mit"}),
        ("---\nlicense: [a\n---\n", {}),
        ("---\nlicense: mit\n", {}),
        ("# No header\n---\nlicense: mit\n---\n", {}),
        ("", {}),
    ],
)
def test_the_licence_is_what_the_card_states(
    text: str, stated: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / CARD).write_text(text)
    found = stated_licence(Model(model=str(tmp_path)))
    assert {name: found[name] for name in stated} == stated and bool(found) == bool(stated)

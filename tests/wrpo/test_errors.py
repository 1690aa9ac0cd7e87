"""Models whose files are damaged end in one error that names the model, however they are loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.tiny_models import save_tiny
from wrpo.engines.transformers import _load
from wrpo.errors import ModelError
from wrpo.recipe.sampling import Model
from wrpo.training.common import load_policy

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("whole") / "model")


def cut(folder: Path) -> None:
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:1000])


def cut_header(folder: Path) -> None:
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:5])


def empty(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"")


def missing(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def pickled(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")


def other_shapes(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_size": 48}))


def no_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def unknown_kind(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "nothing-known"}')


DAMAGES = [cut, cut_header, empty, missing, pickled, other_shapes, no_config, unknown_kind]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize(
    "load",
    [
        lambda path: load_policy(str(path), Model(model=str(path))),
        lambda path: _load(str(path), Model(model=str(path)), 64),
    ],
    ids=["training", "transformers"],
)
def test_a_damaged_model_is_named(
    whole: Path, tmp_path: Path, damage: Callable[[Path], None], load: Callable[[Path], object]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    load(folder)
    damage(folder)
    with pytest.raises(ModelError, match=f"cannot load (model )?{folder}"):
        load(folder)

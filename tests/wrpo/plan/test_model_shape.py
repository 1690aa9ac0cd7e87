"""The shape of models from their files, their size, or their name."""

import json
from pathlib import Path

import pytest

from tests.support.tiny_models import save_tiny, tiny_model
from wrpo.plan.model_shape import shape_of


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma2"])
def test_parameters_are_counted_from_safetensors(tmp_path: Path, architecture: str) -> None:
    folder = save_tiny(tmp_path / "model", architecture)
    model = tiny_model(architecture)
    shape = shape_of(str(folder))
    assert shape is not None
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    config = model.config.get_text_config()
    assert shape.layers == config.num_hidden_layers
    assert shape.basis == "size from its safetensors files, shape from config.json"


def test_the_recipe_wins_over_files(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model", "llama")
    shape = shape_of(str(folder), parameters_b=2.0)
    assert shape and shape.parameters == 2e9


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("meta-llama/Llama-3.2-1B-Instruct", 1),
        ("Qwen/Qwen2.5-0.5B", 0.5),
        ("RLHFlow/ArmoRM-Llama3-8B-v0.1", 8),
        ("Skywork/Skywork-Reward-V2-Llama-3.1-8B", 8),
        ("google/gemma-2-27b-it", 27),
        ("some/model-v2", None),
        ("mistralai/Mistral-Large-Instruct-2407", None),
    ],
)
def test_a_size_in_the_name_is_better_than_none(name: str, billions: float | None) -> None:
    shape = shape_of(name)
    assert (shape.parameters / 1e9 if shape else None) == billions


@pytest.mark.parametrize(
    ("billions", "layers", "hidden"), [(1.24, 16, 2048), (8.03, 32, 4096), (70.6, 80, 8192)]
)
def test_a_guessed_shape_is_near_that_of_llama3(billions: float, layers: int, hidden: int) -> None:
    shape = shape_of("x/y", parameters_b=billions)
    assert shape and "guessed" in shape.basis
    assert shape.layers == pytest.approx(layers, rel=0.25)
    assert shape.hidden == pytest.approx(hidden, rel=0.25)


def test_a_mixture_decodes_between_its_sizes() -> None:
    shape = shape_of("x/y", parameters_b=236, active_b=21)
    assert shape and 21 < shape.decode_billions < 236


def test_damaged_files_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 40)
    (tmp_path / "config.json").write_text("{")
    assert shape_of(str(tmp_path)) is None


def test_missing_shards_are_not_counted_as_the_whole(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model", "llama")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert shape_of(str(folder)) is None

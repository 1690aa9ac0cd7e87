"""Merging of model folders: streamed over the files of a model, and as a stage of a recipe."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.support.recipe_files import tiny_recipe
from wrpo.errors import DataError, ModelError, RecipeError
from wrpo.merge import merge_models, merge_tensor
from wrpo.merging.linear import Linear
from wrpo.merging.sce import SCE
from wrpo.pipeline.pipeline import Pipeline
from wrpo.recipe import load_recipe, preference

Tensors = dict[str, torch.Tensor]


def tensors(seed: int, dtype: torch.dtype) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    return {
        "a.weight": torch.randn(4, 3, generator=generator).to(dtype),
        "b.weight": torch.randn(5, generator=generator).to(dtype),
        "scale": torch.randn((), generator=generator).to(dtype),
        "ids": torch.arange(3),
        "mask": torch.tensor([True, False]),
    }


def save(folder: Path, made: Tensors, *, shards: int = 1) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    names = sorted(made)
    files = {name: f"model-{at % shards}.safetensors" for at, name in enumerate(names)}
    for file in set(files.values()):
        save_file({n: made[n] for n in names if files[n] == file}, str(folder / file))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    return folder


def load(folder: Path) -> Tensors:
    found: Tensors = {}
    for path in folder.glob("*.safetensors"):
        found |= load_file(str(path))
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shards", [1, 3])
def test_streaming_equals_merging_in_memory_bit_for_bit(
    dtype: torch.dtype, shards: int, tmp_path: Path
) -> None:
    made = [tensors(seed, dtype) for seed in range(3)]
    base, *models = (
        save(tmp_path / str(seed), one, shards=shards) for seed, one in enumerate(made)
    )
    settings = SCE(models=["one", "two"], density=0.5)
    assert merge_models(settings, base, models, tmp_path / "merged") == 5
    expected = {
        name: merge_tensor(settings, made[0][name], [one[name] for one in made[1:]], name=name)
        for name in made[0]
    }
    found = load(tmp_path / "merged")
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), name
    assert not torch.equal(found["a.weight"], made[0]["a.weight"])
    assert {path.name for path in base.iterdir()} == {
        path.name for path in (tmp_path / "merged").iterdir()
    }


def test_models_of_other_tensors_are_refused(tmp_path: Path) -> None:
    base = save(tmp_path / "base", tensors(0, torch.float32))
    settings = Linear(models=["one"])
    lacking = {k: v for k, v in tensors(1, torch.float32).items() if k != "b.weight"}
    other = save(tmp_path / "lacking", lacking)
    with pytest.raises(ModelError, match=r"base has b\.weight, and .*lacking has not"):
        merge_models(settings, base, [other], tmp_path / "merged")
    wide = {**tensors(1, torch.float32), "b.weight": torch.zeros(6)}
    with pytest.raises(ModelError, match=r"b\.weight is \(5,\) in .* and \(6,\) in"):
        merge_models(settings, base, [save(tmp_path / "wide", wide)], tmp_path / "merged")
    counted = {**tensors(1, torch.float32), "ids": torch.arange(3) + 1}
    with pytest.raises(ModelError, match="ids holds torch.int64, and the models differ"):
        merge_models(settings, base, [save(tmp_path / "counted", counted)], tmp_path / "merged")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="holds no weights in safetensors"):
        merge_models(settings, tmp_path / "empty", [base], tmp_path / "merged")


MERGES = """\
arms:
  one: {rows_of: [letters]}
  two: {rows_of: [numbers]}
merges:
  both: {method: sce, models: [one, two]}
"""


def test_a_merge_is_a_model_of_the_run(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, "eval.tasks=[say]", extra=MERGES)
    pipeline = Pipeline(recipe)
    assert pipeline["both"].inputs == ("sft", "one", "two")
    assert pipeline["both"].command == ("wrpo.merge", "--name", "both")
    assert pipeline["eval/both"].inputs == ("both",)
    assert pipeline.key("both")["density"] == 0.1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("merges.both.models=[one, tow]", 'merges.both: no trained model "tow"; models: sft, wrpo'),
        ("merges.both.base=letters", 'no trained model "letters"'),
        ("merges.both.method=dare", "known: linear, sce, task_arithmetic, ties, varm"),
        ("merges.one={method: linear, models: [two]}", "both an arm and a merge"),
        ("merges.letters={method: linear, models: [two]}", "both a source and a merge"),
        ("merges.eval={method: linear, models: [two]}", "another folder of the run directory"),
    ],
)
def test_merges_that_cannot_be_are_refused(override: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=message):
        tiny_recipe(tmp_path, override, extra=MERGES)


def test_rows_of_names_sources_and_stays_out_of_other_keys(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, extra=MERGES)
    assert Pipeline(recipe)["one"].settings()["rows_of"] == ["letters"]
    assert "rows_of" not in Pipeline(recipe)["wrpo"].settings()
    with pytest.raises(RecipeError, match='one.rows_of: no source "leters"; sources: letters, num'):
        Pipeline(tiny_recipe(tmp_path, "arms.one.rows_of=[leters]", extra=MERGES))
    rows = [{"source_chosen_source": name} for name in ("letters", "numbers", "letters")]
    assert len(preference(recipe, "one").rows_to_train(rows)) == 2
    assert len(preference(recipe, "wrpo").rows_to_train(rows)) == 3
    with pytest.raises(DataError, match="no row of triples is; they are of letters"):
        preference(recipe, "two").rows_to_train(rows[:1])


@pytest.mark.slow
def test_one_run_per_source_then_a_merge(
    finished_run: Path, tmp_path: Path, run_module: Callable[..., object]
) -> None:
    """The stage itself, on the trained models of the small run."""
    recipe = load_recipe(finished_run)
    merges = {"soup": {"method": "linear", "models": ["wrpo", "dpo"]}}
    overrides = ["run=merged", f"reuse={recipe.run}", f"merges={json.dumps(merges)}"]
    result = run_module("wrpo.merge", "--name", "soup", "--recipe", finished_run, *overrides)
    assert result.returncode == 0, result.stderr
    runs = {"soup": "merged", "wrpo": recipe.run, "dpo": recipe.run}
    found = {name: load(recipe.runs / run / name / "model") for name, run in runs.items()}
    for name, tensor in found["soup"].items():
        torch.testing.assert_close(tensor, (found["wrpo"][name] + found["dpo"][name]) / 2)
    card = (recipe.runs / "merged" / "soup" / "model" / "README.md").read_text()
    assert "merged by linear with sft as the base" in card

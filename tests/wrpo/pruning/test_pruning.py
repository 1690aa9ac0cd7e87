"""Pruning: what a removed block is, the search against brute force, folders that load."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.tiny_models import save_tiny, tiny_model, tiny_tokenizer
from tests.wrpo.plan.test_estimate import KNOWN, pipeline_of, prices
from wrpo.errors import DataError, ModelError, RecipeError
from wrpo.pipeline.folder import StageFolder, read_manifest
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import SFT_ROWS
from wrpo.plan.model_shape import shape_of
from wrpo.pruning.__main__ import SEARCH, prune_target
from wrpo.pruning.blocks import ResidualBlock, blocks_of, freeze_removed, output_of, without
from wrpo.pruning.export import save_pruned
from wrpo.pruning.search import (
    greedy,
    measured_by,
    pack,
    perplexity,
    removal_from_json,
    removal_to_json,
)
from wrpo.recipe import load_recipe
from wrpo.training.common import load_policy

FAMILIES = ["llama", "qwen2", "gemma2"]


def sequences(count: int = 6, length: int = 24, *, vocabulary: int = 262) -> torch.Tensor:
    return torch.randint(0, vocabulary, (count, length), generator=torch.manual_seed(0))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_removed_block_is_one_with_a_last_matrix_of_zeros(family: str) -> None:
    model, ids = tiny_model(family), sequences(2)
    for block in (ResidualBlock("attention", 0), ResidualBlock("mlp", 1)):
        with torch.no_grad(), without(model, [block]):
            removed = model(input_ids=ids).logits
        before = output_of(model, block).weight.clone()
        with torch.no_grad():
            output_of(model, block).weight.zero_()
            zeroed = model(input_ids=ids).logits
            output_of(model, block).weight.copy_(before)
        assert torch.equal(removed, zeroed)
    assert not torch.equal(removed, model(input_ids=ids).logits)  # they come back


def test_greedy_is_brute_force_counts_and_is_a_prefix_of_itself() -> None:
    model, ids = tiny_model(num_hidden_layers=4), sequences()
    units = [(block,) for block in blocks_of(model, ("attention", "mlp"))]
    measure = measured_by(model, ids, batch=8)
    each = {unit: measure(list(unit)) for unit in units}
    five = list(greedy(units, 5, measure))
    assert five[0].unit == min(each, key=each.__getitem__)
    assert five[0].perplexity == each[five[0].unit]
    assert sum(one.evaluations for one in five) == 8 + 7 + 6 + 5 + 4
    three = list(greedy(units, 3, measure))
    assert (
        three
        == five[:3]
        == [removal_from_json(json.loads(json.dumps(removal_to_json(r)))) for r in five[:3]]
    )
    assert list(greedy(units, 5, measure, done=three)) == five[3:]
    for batch in (1, 4):
        assert perplexity(model, ids, batch=batch) == pytest.approx(perplexity(model, ids))


def test_what_is_not_finite_never_wins() -> None:
    units = [(ResidualBlock("mlp", n),) for n in range(3)]
    values = {0: float("nan"), 1: 5.0, 2: float("inf")}
    [first] = greedy(units, 1, lambda blocks: values[blocks[-1].layer])
    assert first.unit == units[1] and first.not_finite == 2
    with pytest.raises(ModelError, match=r"lower prune\.remove"):
        list(greedy(units, 2, lambda blocks: values[blocks[-1].layer]))


def test_texts_are_packed_and_never_padded() -> None:
    packed = pack([0] * 7, sequence_tokens=3, most_tokens=100)
    assert packed.tolist() == [[0, 0, 0], [0, 0, 0]]
    assert pack(range(100), sequence_tokens=4, most_tokens=10).shape == (2, 4)
    with pytest.raises(DataError, match="5 tokens to calibrate with make no sequence"):
        pack([1] * 5, sequence_tokens=6, most_tokens=100)
    model = tiny_model()  # whose pad token is 0, which counts here
    zeros = torch.zeros(2, 8, dtype=torch.long)
    loss = model(input_ids=zeros, labels=zeros).loss
    assert perplexity(model, zeros) == pytest.approx(loss.exp().item(), rel=1e-4)


def chain(count: int, *, seed: int) -> torch.Tensor:
    """Sequences in which each token follows from the two before it, nine times of ten."""
    draw = torch.Generator().manual_seed(seed)
    table = torch.randint(0, 16, (16, 16), generator=torch.Generator().manual_seed(99))
    ids = torch.randint(0, 16, (count, 24), generator=draw)
    noise = torch.rand(count, 24, generator=draw)
    for place in range(2, 24):
        follows = table[ids[:, place - 2], ids[:, place - 1]]
        ids[:, place] = torch.where(noise[:, place] < 0.9, follows, ids[:, place])
    return ids


@pytest.mark.slow
def test_planted_redundancy_is_removed_first_and_loads_as_a_shorter_model(tmp_path: Path) -> None:
    """Planted: blocks that were frozen at zero while the rest was trained. Control: the same
    number of other blocks costs perplexity."""
    model = tiny_model(num_hidden_layers=4, vocab_size=16, initializer_range=0.05)
    idle = {ResidualBlock("attention", 2), ResidualBlock("mlp", 2), ResidualBlock("mlp", 0)}
    for block in idle:
        torch.nn.init.zeros_(output_of(model, block).weight).requires_grad_(False)
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-2)
    for step in range(120):
        ids = chain(24, seed=step)
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    held_out = chain(32, seed=1000)
    before = perplexity(model.eval(), held_out)
    assert before < 14
    units = [(block,) for block in blocks_of(model, ("attention", "mlp"))]
    found = list(greedy(units, 4, measured_by(model, held_out, batch=32)))
    assert {found[n].unit[0] for n in range(3)} == idle
    assert all(found[n].perplexity == pytest.approx(before, abs=1e-5) for n in range(3))
    assert found[3].perplexity > before + 1e-3
    others = [unit[0] for unit in units if unit[0] not in idle][:3]
    with without(model, others):
        assert perplexity(model, held_out) > before + 0.1

    parameters = model.num_parameters()
    layer = sum(p.numel() for p in model.model.layers[2].parameters())
    halves = save_pruned(model, [one.unit[0] for one in found[:3]], tmp_path / "small")
    assert halves == [ResidualBlock("mlp", 0)] and model.num_parameters() == parameters - layer
    tiny_tokenizer().save_pretrained(tmp_path / "small")
    from wrpo.recipe.sampling import Model

    small = str(tmp_path / "small")
    loaded = load_policy(small, Model(model=small))
    assert loaded.config.num_hidden_layers == 3 and freeze_removed(loaded) == 1
    assert not output_of(loaded, ResidualBlock("mlp", 0)).weight.requires_grad
    assert perplexity(loaded.eval(), held_out) == pytest.approx(before, abs=1e-4)
    cached = loaded.generate(held_out[:1, :6], max_new_tokens=6, do_sample=False, use_cache=True)
    anew = loaded.generate(held_out[:1, :6], max_new_tokens=6, do_sample=False, use_cache=False)
    assert torch.equal(cached, anew)


@pytest.mark.parametrize("family", FAMILIES)
def test_whole_layers_leave_a_folder_of_that_many_layers(family: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model, ids = tiny_model(family, num_hidden_layers=3), sequences(2)
    gone = [ResidualBlock("attention", 1), ResidualBlock("mlp", 1)]
    with torch.no_grad(), without(model, gone):
        expected = model(input_ids=ids).logits
    kinds = list(getattr(model.config, "layer_types", None) or [])
    assert save_pruned(model, gone, tmp_path) == []
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert torch.allclose(loaded(input_ids=ids).logits, expected, atol=1e-5)
    assert len(loaded.model.layers) == 2 and (
        not kinds or loaded.config.layer_types == [kinds[0], kinds[2]]
    )
    with pytest.raises(ModelError, match="all layers would be removed"):
        save_pruned(loaded, blocks_of(loaded, ("attention", "mlp")), tmp_path / "none")


def pruning_recipe(write_recipe: Callable[..., Path], folder: Path, **prune: Any) -> Path:
    (folder / "texts.txt").write_text("The sea and the hill.\n\nA moon over old sand. " * 20)
    settings = {"texts": str(folder / "texts.txt"), "sequence_tokens": 64, **prune}
    target = {"model": str(save_tiny(folder / "wide", num_hidden_layers=4)), "dtype": "float32"}
    return write_recipe(target=target, prune=settings)


@pytest.mark.slow
def test_the_stage_resumes_its_search_and_sft_starts_from_what_is_left(
    write_recipe: Callable[..., Path], tmp_path: Path
) -> None:
    from wrpo.train_sft import starting_model

    recipe = load_recipe(pruning_recipe(write_recipe, tmp_path, remove=2, blocks="layers"))
    pipeline = Pipeline(recipe)
    assert "prune" in pipeline["sft"].inputs and pipeline["prune"].inputs == ()
    prune_target(recipe)
    made = pipeline.finished("prune")
    facts = read_manifest(made)
    assert starting_model(pipeline) == str(made / "model")
    assert len(facts["removed"]) == 2 and facts["evaluations"] == 4 + 3
    assert facts["parameters"]["after"] < facts["parameters"]["before"] and not facts["zeroed"]
    assert json.loads((made / "model" / "config.json").read_text())["num_hidden_layers"] == 2

    whole = json.loads((made / SEARCH).read_text())
    again = load_recipe(tmp_path / "recipe.yaml", ["run=again"])
    folder = Pipeline(again).folder("prune")
    from wrpo.pipeline.parts import open_stage

    with open_stage(Pipeline(again), "prune") as work:  # killed after the first removal
        (work.path / SEARCH).write_text(json.dumps(whole[:1]))
        work.leave_unfinished()
    prune_target(again)
    assert json.loads((folder / SEARCH).read_text()) == whole


@pytest.mark.slow
def test_sft_trains_what_is_left_and_removed_blocks_stay_zero(
    write_recipe: Callable[..., Path], tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    from tests.support.small_run import TRAIN
    from wrpo.train_sft import train_sft

    pruning_recipe(write_recipe, tmp_path, remove=2, blocks="mlp")
    recipe = load_recipe(
        tmp_path / "recipe.yaml",
        [
            *(f"sft.train.{name}={json.dumps(value)}" for name, value in TRAIN.items()),
            *("sft.global_batch_size=2", "sft.engine.per_device_batch_size=2"),
        ],
    )
    pipeline = Pipeline(recipe)
    prune_target(recipe)
    folder = StageFolder(pipeline.folder("build/sft"), pipeline.key("build/sft"))
    folder.open()
    rows = [
        {
            "prompt_id": f"p{n}",
            "prompt": [{"role": "user", "content": f"Say {n}."}],
            "completion": [{"role": "assistant", "content": f"{n}!"}],
        }
        for n in range(4)
    ]
    folder.write_table(rows, SFT_ROWS)
    folder.finish()
    train_sft(recipe)
    models = [pipeline.finished(stage) / "model" for stage in ("prune", "sft")]
    pruned, trained = (AutoModelForCausalLM.from_pretrained(model) for model in models)
    removed = [ResidualBlock(*block) for block in trained.config.removed_blocks]
    assert len(removed) == 2
    for block in removed:
        assert not output_of(trained, block).weight.any()
    other = ResidualBlock("attention", removed[0].layer)
    assert not torch.equal(output_of(trained, other).weight, output_of(pruned, other).weight)


def test_what_cannot_be_pruned_is_refused(
    write_recipe: Callable[..., Path], tmp_path: Path
) -> None:
    path = pruning_recipe(write_recipe, tmp_path, remove=4)
    with pytest.raises(RecipeError, match=r"prune\.remove is 4, and the target has 4"):
        prune_target(load_recipe(path))
    with pytest.raises(RecipeError, match=r"sft\.lora would train blocks that prune removes"):
        load_recipe(path, ["prune.blocks=mlp", "sft.lora.r=2"])


def test_the_plan_counts_the_passes_of_the_search(tmp_path: Path) -> None:
    extra = "prune: {remove: 2, blocks: both, sequence_tokens: 1024}"
    found = prices(pipeline_of(tmp_path, *KNOWN, extra=extra))["prune"]
    layers = shape_of("hub/target", parameters_b=8).layers
    assert f"{2 * layers + 2 * layers - 1} passes over 64 sequences" in found.terms[0].text
    assert found.gpu_hours > 0

"""`engine.compile`: the same numbers, and nothing compiled anew for other lengths."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import wrpo.training.compiled_layers
from benchmarks.gpu.exactness import family_model
from tests.support.recipe_files import tiny_recipe
from tests.wrpo.training.small_training import logged, policy
from wrpo.collator import BatchLayout, DataCollatorForWRPO, by_response, padded_layout
from wrpo.errors import RecipeError
from wrpo.prefix.attention import SDPA, attach_scored_only
from wrpo.prefix.fused_head import fused_pass
from wrpo.prefix.packing import PackedLayout
from wrpo.recipe import preference
from wrpo.rows.columns import TRIPLE_RESPONSES
from wrpo.training.common import train_and_save
from wrpo.training.compiled_layers import compile_layers

LENGTHS = ((14, 3, 11, 21, 8, 6), (8, 8, 4, 30, 2, 2, 3, 3, 3), (5, 6, 7, 9, 5, 7))
"""Of prompts and first two responses, batch by batch; one prompt alone has as many segments as a
segment has columns, which torch would take for the same number."""


def batch(lengths: tuple[int, ...], layout: BatchLayout) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(len(lengths))

    def tokens(count: int) -> list[int]:
        return torch.randint(3, 500, (count,), generator=generator).tolist()

    rows = [
        {
            "prompt_ids": tokens(p),
            **{f"{n}_ids": tokens(k) for n, k in zip(TRIPLE_RESPONSES, own, strict=True)},
        }
        for p, *own in zip(*(lengths[i::3] for i in (0, 1, 2, 1)), strict=True)
    ]
    return DataCollatorForWRPO(pad_token_id=0, layout=layout)(rows)


def step(model: Any, rows: dict[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Log-probs of the responses, and gradients."""
    model.zero_grad()
    logps = by_response(fused_pass(model, rows).log_probs, rows)
    (logps * torch.linspace(-1, 2, logps.numel()).view_as(logps)).sum().backward()
    return logps.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.fixture
def counters():
    """What torch compiled; the other tests keep it from doing so."""
    import torch._dynamo

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    with torch._dynamo.config.patch(disable=False):
        yield torch._dynamo.utils.counters
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["prefix", "padded"])
@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma2", "mistral"])
def test_scores_and_gradients_stay_and_lengths_compile_nothing_anew(family, layout, counters):
    model = family_model(family, "cpu")
    if layout == "prefix" or family == "gemma2":
        model.config._attn_implementation = SDPA
    attach_scored_only(model)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    arranged = PackedLayout(scored_only=True) if layout == "prefix" else padded_layout
    batches = [batch(lengths, arranged) for lengths in LENGTHS]
    expected = [step(model, rows) for rows in batches]
    compile_layers(model, backend="aot_eager")
    graphs = []
    for rows, (logps, gradients) in zip(batches, expected, strict=True):
        found, own = step(model, rows)
        torch.testing.assert_close(found, logps, rtol=1e-6, atol=1e-6)
        for left, right in zip(own, gradients, strict=True):
            assert (left - right).norm() <= 2e-6 * right.norm().clamp(min=1e-6)
        graphs.append(counters["stats"]["unique_graphs"])
    assert 1 <= graphs[0] == graphs[-1] <= 8, "layers share their graphs, and lengths are symbols"
    stops = " ".join(counters["graph_break"])
    assert all("torch.compiler.disable" in stop for stop in counters["graph_break"]), stops


@pytest.mark.slow
def test_training_stays(make_trainer, monkeypatch, tmp_path, counters):
    compiled = partial(compile_layers, backend="aot_eager")
    monkeypatch.setattr(wrpo.training.compiled_layers, "compile_layers", compiled)
    monkeypatch.setattr("wrpo.training.common.save_model", lambda *_, **__: None)
    losses = []
    for asked in (False, True):
        trainer = make_trainer(
            ref_model=policy(seed=1),
            micro_batch_tokens=150,
            gradient_checkpointing=True,
            num_train_epochs=1,
        )
        work: Any = type("Work", (), {"path": tmp_path, "facts": {}})
        train_and_save(trainer, work, rows=8, compiled=asked)
        losses.append(logged(trainer, "loss"))
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert counters["stats"]["unique_graphs"] > 0


@pytest.mark.slow
def test_torch_compile_of_trl_compiles_the_whole_model(make_trainer, counters):
    losses = []
    for asked in ({}, {"torch_compile": True, "torch_compile_backend": "aot_eager"}):
        trainer = make_trainer(ref_model=policy(seed=1), num_train_epochs=1, **asked)
        trainer.train()
        losses.append(logged(trainer, "loss"))
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert counters["stats"]["unique_graphs"] > 0


def test_a_model_without_layers_of_transformers_is_refused():
    with pytest.raises(RecipeError, match="Linear is not made of transformers' layers; leave it"):
        compile_layers(nn.Linear(2, 2))


def test_arms_that_trl_trains_are_not_compiled(tmp_path):
    arm = {"objective": "gkd", "teacher": "letters", "train": {"learning_rate": 1e-6}}
    recipe = tiny_recipe(tmp_path, "wrpo.engine.compile=true", f"arms.own={json.dumps(arm)}")
    assert preference(recipe, "wrpo").engine.compile
    assert not preference(recipe, "own").engine.compile
    arm["engine"] = {"compile": True}
    with pytest.raises(RecipeError, match="engine.compile is true, but this objective is trained"):
        tiny_recipe(tmp_path, f"arms.own={json.dumps(arm)}")

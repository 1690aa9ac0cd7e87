"""Sharing prompts costs no precision in bfloat16."""

import pytest
import torch
from accelerate.state import AcceleratorState

from tests.support.tiny_models import tiny_model
from tests.wrpo.prefix.layouts import scoring_model, share_prompts, token_rows
from tests.wrpo.training.small_training import logged
from wrpo.collator import DataCollatorForWRPO, by_response, model_inputs, padded_layout
from wrpo.prefix.packing import PackedLayout


@pytest.fixture
def own_precision():
    """Takes back what a run sets for the whole process, so that the order of tests is free."""
    yield
    AcceleratorState._reset_state()


def random_lengths(prompts):
    generator = torch.Generator().manual_seed(5)

    def between(low, high, count):
        return torch.randint(low, high, (count,), generator=generator).tolist()

    return [(between(5, 40, 1)[0], between(3, 40, 3)) for _ in range(prompts)]


@torch.no_grad()
def log_probs(model, layout, rows):
    batch = DataCollatorForWRPO(pad_token_id=0, layout=layout)(rows)
    outputs = model(**model_inputs(batch), use_cache=False, fused_lm_head=True)
    return by_response(outputs.log_probs.float(), batch)


@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
def test_log_probs_are_as_near_to_float32_as_those_of_padded_rows(architecture):
    """Root mean square over 120 responses; the same rounded weights in both precisions."""
    rows = token_rows(random_lengths(40), seed=1)
    model = scoring_model(architecture).eval()
    # Only parameters, as from_pretrained: the frequencies of the positions stay in float32.
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16()
    padded = log_probs(model, padded_layout, rows)
    share_prompts(model)
    shared = log_probs(model, PackedLayout(row_tokens=400), rows)
    truth = log_probs(model.float(), padded_layout, rows)
    errors = {
        name: (values - truth).square().mean().sqrt()
        for name, values in (("padded", padded), ("shared", shared))
    }
    assert 1e-3 < errors["padded"] < 1
    assert errors["shared"] < 1.2 * errors["padded"]


def test_autocast_trains_alike_in_both_layouts(make_trainer, own_precision):
    losses, logps = {}, {}
    for layout in ("padded", "prefix"):
        trainer = make_trainer(
            model=tiny_model(), triple_layout=layout, bf16=True, max_steps=6, learning_rate=1e-3
        )
        assert isinstance(trainer.data_collator.layout, PackedLayout) == (layout == "prefix")
        trainer.train()
        losses[layout] = logged(trainer, "loss")
        logps[layout] = logged(trainer, "logps/chosen")
    assert losses["prefix"] == pytest.approx(losses["padded"], abs=0.1)
    assert losses["prefix"][-1] < losses["prefix"][0] - 0.1
    assert logps["prefix"] == pytest.approx(logps["padded"], abs=0.5)

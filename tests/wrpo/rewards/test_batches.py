"""Packed and padded batches hold the same conversations and stay within their budget."""

import pytest
import torch

from wrpo.rewards.networks.batches import (
    Conversation,
    packed_batch,
    packed_places,
    padded_batch,
    padded_places,
)
from wrpo.rewards.networks.network import Pooled, has_score_head, score_head, share_prompts

CONVERSATIONS = [
    Conversation(tuple(range(10, 10 + prompt)), tuple(range(50, 50 + response)))
    for prompt, response in [(30, 4), (30, 40), (30, 9), (3, 5), (70, 1), (70, 60)]
]


@pytest.mark.parametrize("architecture", ["llama", "mistral", "qwen2", "qwen3", "gemma2", "phi3"])
def test_shared_prompts_give_the_logits_of_batch_1(architecture: str) -> None:
    import transformers

    from tests.support.tiny_models import ARCHITECTURES, tiny_model

    config = tiny_model(architecture).config
    config.num_labels = 1
    torch.manual_seed(0)
    name = f"{ARCHITECTURES[architecture][0]}ForSequenceClassification"
    model = getattr(transformers, name)(config).eval()
    model.config._attn_implementation = "eager"  # sdpa would leave out Gemma-2's softcap
    assert has_score_head(model)
    with torch.no_grad():
        alone = [
            model(torch.tensor([[*prompt, *response]])).logits[0, 0].item()
            for prompt, response in CONVERSATIONS
        ]
    assert share_prompts(model, 512) is None
    network = Pooled(model.base_model, score_head(model))
    assert network(packed_batch(CONVERSATIONS)).tolist() == pytest.approx(alone, abs=1e-5)
    assert network(padded_batch(CONVERSATIONS, 0)).tolist() == pytest.approx(alone, abs=1e-5)
    assert max(alone) - min(alone) > 0.1


@pytest.mark.parametrize("budget", [1, 75, 100, 10_000])
def test_every_conversation_is_planned_once_and_fits_the_budget(budget: int) -> None:
    for plan in (packed_places, padded_places):
        batches = plan(CONVERSATIONS, budget)
        places = sorted(place for batch in batches for place in batch)
        assert places == list(range(len(CONVERSATIONS)))
    for places in packed_places(CONVERSATIONS, budget):
        batch = packed_batch([CONVERSATIONS[place] for place in places])
        assert batch.inputs["input_ids"].numel() <= budget or len(places) == 1


def test_conversations_with_equal_prompts_are_brought_together() -> None:
    mixed = [CONVERSATIONS[place] for place in (0, 4, 1, 5, 2)]
    (places,) = packed_places(mixed, 10_000)
    packed = packed_batch([mixed[place] for place in places])
    assert packed.inputs["input_ids"].shape == (1, 30 + 4 + 40 + 9 + 70 + 1 + 60)

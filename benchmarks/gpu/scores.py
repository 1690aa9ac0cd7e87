"""A classifier over 20 responses of each prompt: shared prompts over the public batch-1 loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

from benchmarks.gpu.figures import Figure
from benchmarks.lengths import triple_lengths
from benchmarks.shapes import SHAPES, Shape
from wrpo.rewards.networks.batches import Conversation, packed_batch, packed_places
from wrpo.rewards.networks.network import Pooled, score_head, share_prompts

RESPONSES = 20
BATCH_TOKENS = 16384


def conversations(shape: Shape, prompts: int) -> list[Conversation]:
    """Prompts and responses of random tokens, as long as those of UltraFeedback."""
    generator = torch.Generator().manual_seed(0)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(3, shape.vocabulary, (count,), generator=generator).tolist())

    made = []
    for seed in range(prompts):
        drawn = triple_lengths("uf", 7, seed)
        prompt = tokens(drawn[0][0])
        lengths = [length for _, responses in drawn for length in responses]
        made += [Conversation(prompt, tokens(length)) for length in lengths[:RESPONSES]]
    return made


def classifier(shape: Shape, device: str) -> LlamaForSequenceClassification:
    """A Llama with one label and random weights."""
    config = LlamaConfig(**shape.sizes(), num_labels=1)
    torch.manual_seed(0)
    half = torch.float32 if device == "cpu" else torch.bfloat16
    with torch.device(device):
        return LlamaForSequenceClassification(config).to(half).eval()


def figures(device: str, shape: str, *, layers: int | None, prompts: int) -> Iterator[Figure]:
    """Time ratio, token ratio, and how often the best response is the same."""
    size = SHAPES[shape].with_layers(layers)
    rows, model = conversations(size, prompts), classifier(size, device)
    head = score_head(model)

    def loop() -> list[float]:
        with torch.inference_mode():
            return [
                float(model(torch.tensor([[*p, *a]], device=device)).logits[0, 0].item())
                for p, a in rows
            ]

    def shared() -> list[float]:
        network = Pooled(model.base_model, head)
        found: dict[int, float] = {}
        for places in packed_places(rows, BATCH_TOKENS):
            values = network(packed_batch([rows[place] for place in places])).tolist()
            found |= dict(zip(places, values, strict=True))
        return [found[place] for place in range(len(rows))]

    loop()
    usual, before = _timed(loop, device)
    reason = share_prompts(model, 8192)
    if reason is not None:
        yield Figure("scores", f"{shape}: shared prompts are refused", 0, note=reason, least=1)
        return
    shared()
    ours, after = _timed(shared, device)
    name = f"{shape} classifier, {RESPONSES} responses to each of {prompts} prompts"
    yield Figure("scores", f"{name}: batch-1 loop over ours", usual / ours, least=8.0)
    alone = sum(len(p) + len(a) for p, a in rows)
    once = sum(len(p) for p in {row.prompt for row in rows}) + sum(len(a) for _, a in rows)
    yield Figure("scores", f"{name}: tokens of the loop over ours", alone / once)
    same = sum(_best(before, i) == _best(after, i) for i in range(prompts)) / prompts
    yield Figure("scores", f"{name}: same best response", 100 * same, "%", least=99.9)


def _best(scores: list[float], prompt: int) -> int:
    own = scores[prompt * RESPONSES : (prompt + 1) * RESPONSES]
    return own.index(max(own))


def _timed(score: Callable[[], list[float]], device: str) -> tuple[float, list[float]]:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    scores = score()
    return time.perf_counter() - start, scores

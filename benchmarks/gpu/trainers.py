"""Whole trainers on UltraFeedback-like triples: TRL's DPOTrainer, padded rows, and ours."""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import TrainerCallback
from trl import DPOConfig, DPOTrainer

import wrpo.prefix.varlen_attention
from benchmarks.arms import word_tokenizer
from benchmarks.gpu.figures import Figure
from benchmarks.lengths import Lengths, shared_tokens, triple_lengths
from benchmarks.shapes import SHAPES, Shape, peak, random_model, step_operations
from wrpo import WRPOConfig, WRPOTrainer
from wrpo.rows.columns import TRIPLE_RESPONSES

ASKED = {"0.5b": 4.0, "1.5b": 3.0, "8b": 1.8}
"""TRL's seconds over ours, by shape, although ours train three responses instead of two."""
ASKED_OF_PADDING = {"8b": 2.2}
"""Padded rows with 2 prompts per device over ours with a token budget."""
ASKED_OF_LOOP = {"0.5b": 10.0}
"""Shared prompts by a loop over segments with 4 prompts per device, over ours."""


class Load(NamedTuple):
    """What the trainers are given.

    Attributes:
        prompts: of an optimizer step.
        steps: that are timed.
        shrink: lengths are divided by it.
        warm_up: steps before the clock starts; the token budget is measured in the first three.
    """

    prompts: int = 32
    steps: int = 2
    shrink: int = 1
    warm_up: int = 4


class Timed(NamedTuple):
    """Seconds and most bytes of an optimizer step; None where it does not fit."""

    seconds: float
    bytes: int


class _Clock(TrainerCallback):
    """Times of the ends of optimizer steps."""

    def __init__(self, device: str, warm_up: int) -> None:
        self._cuda, self.warm_up = device == "cuda", warm_up
        self.ends: list[float] = []

    @property
    def seconds(self) -> float:
        """Of an optimizer step after the warm-up."""
        return (self.ends[-1] - self.ends[self.warm_up - 1]) / (len(self.ends) - self.warm_up)

    def on_step_end(self, *_: Any, **__: Any) -> None:
        if self._cuda:
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())
        if self._cuda and len(self.ends) == self.warm_up:
            torch.cuda.reset_peak_memory_stats()


class _Ready(WRPOTrainer):
    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset


class _ReadyPairs(DPOTrainer):
    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset


def rows(shape: Shape, load: Load) -> tuple[Dataset, list[Lengths]]:
    """Triples of random tokens, and their lengths."""
    count, shrink = load.prompts * (load.warm_up + load.steps), load.shrink
    lengths: list[Lengths] = [
        (max(2, prompt // shrink), (max(2, a // shrink), max(2, b // shrink), max(2, c // shrink)))
        for prompt, (a, b, c) in triple_lengths("uf", count, seed=1)
    ]
    generator = torch.Generator().manual_seed(0)

    def tokens(number: int) -> list[int]:
        return torch.randint(3, shape.vocabulary, (number,), generator=generator).tolist()

    made = [
        {
            "prompt_ids": tokens(prompt),
            **{f"{n}_ids": tokens(k) for n, k in zip(TRIPLE_RESPONSES, answers, strict=True)},
            "length": prompt + sum(answers),
        }
        for prompt, answers in lengths
    ]
    return Dataset.from_list(made), lengths


def figures(device: str, shape: str, *, layers: int | None, load: Load) -> Iterator[Figure]:
    """Seconds of an optimizer step, and the ratios that are asked for; the latter first."""
    size = SHAPES[shape].with_layers(layers)
    data, lengths = rows(size, load)
    trl = _best(size, data, device, load, trl=True)
    if trl is not None:
        yield _second(shape, "TRL's DPOTrainer on pairs, best fixed batch", trl)
    ours = _run(size, data, device, load, batch=load.prompts, micro_batch_tokens="auto")
    if ours is None:
        yield Figure("trainers", f"{shape}: ours, token budget, does not fit", 0, least=1)
        return
    yield _second(shape, "ours, token budget", ours)
    yield from _ratio(shape, "TRL", trl, ours, ASKED.get(shape))
    yield from _share(shape, size, lengths, ours, load, device)
    padded = _best(size, data, device, load, triple_layout="padded")
    if padded is not None:
        yield _second(shape, "ours, padded, best fixed batch", padded)
    yield from _ratio(shape, "padded", padded, ours, 1.0)
    two = _run(size, data, device, load, batch=2, triple_layout="padded")
    yield from _ratio(shape, "padded, 2 per device,", two, ours, ASKED_OF_PADDING.get(shape, 1.0))
    fixed = _run(size, data, device, load, batch=2)
    if fixed is not None:
        yield _second(shape, "ours, 2 prompts per device", fixed)
    yield from _adapters(shape, size, data, device, load)
    if shape in ASKED_OF_LOOP or device == "cpu":
        # One step: it is slow.
        brief = load._replace(steps=1)
        with patch.object(wrpo.prefix.varlen_attention, "torch_kernel", lambda: None):
            loop = _run(
                size, data, device, brief, batch=min(4, load.prompts), triple_layout="prefix"
            )
        yield from _ratio(shape, "loop over segments", loop, ours, ASKED_OF_LOOP.get(shape))


def _adapters(shape: str, size: Shape, data: Dataset, device: str, load: Load) -> Iterator[Figure]:
    """LoRA on all linear layers, whose reference is the policy with the adapters off."""
    lora = LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM")
    trl = _run(size, data, device, load, batch=min(8, load.prompts), trl=True, peft_config=lora)
    ours = _run(
        size, data, device, load, batch=load.prompts, micro_batch_tokens="auto", peft_config=lora
    )
    if trl is not None:
        yield _second(shape, "LoRA, TRL's DPOTrainer on pairs, 8 per device", trl)
    if ours is not None:
        yield _second(shape, "LoRA, ours, token budget", ours)
        yield from _ratio(shape, "LoRA: TRL", trl, ours, 1.0)


def _ratio(
    shape: str, name: str, other: Timed | None, ours: Timed, asked: float | None
) -> Iterator[Figure]:
    if other is not None:
        ratio = other.seconds / ours.seconds
        yield Figure("trainers", f"{shape}: {name} over ours", ratio, least=asked)


def _share(
    shape: str, size: Shape, lengths: Sequence[Lengths], ours: Timed, load: Load, device: str
) -> Iterator[Figure]:
    """Tokens per second, and the share of the peak of a mean step."""
    steps = load.warm_up + load.steps
    tokens = shared_tokens(lengths) / steps
    yield Figure("trainers", f"{shape}: ours", tokens / ours.seconds, "tokens/s")
    if most := peak(device):
        pairs = sum(sum(p * n + n**2 // 2 for n in a) + p**2 // 2 for p, a in lengths)
        scored = sum(sum(a) for _, a in lengths)
        done = step_operations(
            size, tokens=int(tokens), scored=scored // steps, pairs=pairs // steps
        )
        share = 100 * done / ours.seconds / most
        asked = 45.0 if shape == "8b" else None
        yield Figure("trainers", f"{shape}: ours, share of peak", share, "%", least=asked)


def _second(shape: str, what: str, timed: Timed) -> Figure:
    note = f"{timed.bytes / 1e9:.1f} GB" if timed.bytes else ""
    return Figure("trainers", f"{shape}: {what}", timed.seconds, "s/step", note=note)


def _best(size: Shape, data: Dataset, device: str, load: Load, **options: Any) -> Timed | None:
    """The fastest of the fixed batches that fit, from large to small until it gets slower."""
    found: list[Timed] = []
    for batch in (16, 8, 4, 2, 1):
        if batch > load.prompts:
            continue
        timed = _run(size, data, device, load, batch=batch, **options)
        if timed is None:
            continue
        found.append(timed)
        if len(found) > 1 and found[-1].seconds > found[-2].seconds:
            break
    return min(found, default=None)


def _run(
    size: Shape,
    data: Dataset,
    device: str,
    load: Load,
    *,
    batch: int,
    trl: bool = False,
    **options: Any,
) -> Timed | None:
    """One trainer from nothing; bfloat16 weights and SGD, so that 8B fit on one GPU."""
    half, measured = device == "cuda", options.get("micro_batch_tokens") == "auto"
    warm_up = load.warm_up if measured else 1
    clock = _Clock(device, warm_up)
    adapters = options.pop("peft_config", None)
    policy, *others = (
        random_model(size, seed=seed, device=device, attention="sdpa")
        for seed in ((0,) if adapters else (0, 1))
    )
    reference = others[0] if others else None
    with tempfile.TemporaryDirectory() as folder:
        common: dict[str, Any] = {
            "output_dir": folder,
            "per_device_train_batch_size": batch,
            "gradient_accumulation_steps": load.prompts // batch,
            "max_steps": warm_up + load.steps,
            "optim": "sgd",
            "bf16": half,
            "use_cpu": not half,
            "gradient_checkpointing": True,
            "max_length": None,
            "report_to": "none",
            "disable_tqdm": True,
            "save_strategy": "no",
            "logging_steps": 100,
        }
        given: dict[str, Any] = {
            "model": policy,
            "ref_model": reference,
            "train_dataset": data,
            "processing_class": word_tokenizer(),
            "callbacks": [clock],
            "peft_config": adapters,
        }
        try:
            if trl:
                _ReadyPairs(args=DPOConfig(**common), **given).train()
            else:
                _Ready(args=WRPOConfig(**common, **options), **given).train()
        except torch.OutOfMemoryError:
            return None
        finally:
            del policy, others, reference, given
            held = torch.cuda.max_memory_allocated() if half else 0
            gc.collect()
            if half:
                torch.cuda.empty_cache()
    return Timed(clock.seconds, held)

"""Which way to arrange a batch is fastest for this model on this machine, by trying."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.logging import get_logger

from wrpo.collator import BatchLayout, DataCollatorForWRPO, Example, padded_layout
from wrpo.prefix.fused_head import fused_pass

logger = get_logger(__name__)

_TURNS = 2
"""Timed turns of each way, after one that warms up; the fastest counts."""
_USUAL_LENGTHS = (
    (113, (250, 330, 290)),
    (60, (420, 180, 350)),
    (300, (300, 260, 420)),
    (95, (150,) * 3),
)
"""Prompts and responses like those of UltraFeedback."""


class Way(NamedTuple):
    """How tokens are arranged, and the attention that they get."""

    layout: BatchLayout
    attention: str

    @property
    def name(self) -> str:
        """For the log."""
        return f"{'padded' if self.layout is padded_layout else 'prefix'} with {self.attention}"


def usual_rows(vocabulary: int, responses: Sequence[str]) -> list[dict[str, list[int]]]:
    """Four rows of random tokens with usual lengths."""
    generator = torch.Generator().manual_seed(0)

    def tokens(count: int) -> list[int]:
        return torch.randint(vocabulary, (count,), generator=generator).tolist()

    return [
        {
            "prompt_ids": tokens(prompt),
            **{f"{name}_ids": tokens(lengths[i % 3]) for i, name in enumerate(responses)},
        }
        for prompt, lengths in _USUAL_LENGTHS
    ]


def typical_rows(dataset: Any, count: int) -> list[Example]:
    """Rows from all over the lengths of a prepared data set; none of a streamed one."""
    if "length" not in (getattr(dataset, "column_names", None) or ()) or not hasattr(
        dataset, "__len__"
    ):
        return []
    lengths = dataset["length"][:]
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    count = min(count, len(order))
    return [dataset[order[(2 * i + 1) * len(order) // (2 * count)]] for i in range(count)]


def fastest(
    model: Any,
    ways: Sequence[Way],
    rows: Sequence[Example],
    *,
    responses: Sequence[str],
    trains: bool,
    accelerator: Accelerator,
    checkpointing: bool = False,
    clock: Callable[[], float] = perf_counter,
) -> Way:
    """The way that takes the least time on all processes together; logs what was measured.

    Where no way has the memory for all rows, half of them are tried, and so on. The first wins
    ties, and where none could be measured. The model keeps its weights, has no gradients
    afterwards, and the attention of the last way.

    checkpointing: whether training recomputes activations, so that the trial does too.
    """
    while True:
        with _checkpointed(model, checkpointing and trains):
            options: Any = {"responses": tuple(responses), "trains": trains}
            everywhere = _seconds(model, ways, rows, accelerator, clock, **options)
        if min(everywhere) < math.inf or len(rows) == 1:
            break
        rows = rows[: len(rows) // 2]
    best = min(range(len(ways)), key=everywhere.__getitem__)
    measured = ", ".join(
        f"{way.name} {1000 * taken / accelerator.num_processes:.1f} ms"
        for way, taken in zip(ways, everywhere, strict=True)
    )
    logger.info(f"triple_layout: {ways[best].name}; on {len(rows)} prompts {measured}")
    return ways[best]


@contextmanager
def _checkpointed(model: Any, wanted: bool) -> Iterator[None]:
    """Activations are recomputed, as they will be once the trainer has switched it on."""
    if not wanted or model.is_gradient_checkpointing:
        yield
        return
    model.gradient_checkpointing_enable({"use_reentrant": False})
    try:
        yield
    finally:
        model.gradient_checkpointing_disable()


def _seconds(
    model: Any,
    ways: Sequence[Way],
    rows: Sequence[Example],
    accelerator: Accelerator,
    clock: Callable[[], float],
    *,
    responses: tuple[str, ...],
    trains: bool,
) -> list[float]:
    """Of each way, the least time of a turn, added up over the processes."""
    device = accelerator.device
    steps = []
    for way in ways:
        collator = DataCollatorForWRPO(pad_token_id=0, layout=way.layout, responses=responses)
        batch = {name: value.to(device) for name, value in collator(rows).items()}
        steps.append(_Step(model, way, batch, trains=trains, accelerator=accelerator))
    seconds = torch.full((len(ways),), math.inf, device=device)
    # In turns, so that what disturbs the machine disturbs all alike.
    for turn in range(_TURNS + 1):
        for place, step in enumerate(steps):
            taken = step.seconds(clock)
            if turn:
                seconds[place] = min(float(seconds[place]), taken)
    total: list[float] = accelerator.reduce(seconds, "sum").tolist()
    return total


class _Step:
    """One forward pass over a batch, with its backward pass if the model trains."""

    def __init__(
        self,
        model: Any,
        way: Way,
        batch: dict[str, torch.Tensor],
        *,
        trains: bool,
        accelerator: Accelerator,
    ) -> None:
        self._model, self._way, self._batch = model, way, batch
        self._trains, self._accelerator, self._failed = trains, accelerator, False

    def seconds(self, clock: Callable[[], float]) -> float:
        """Time of one step; infinite where it fails, as for want of memory."""
        if self._failed:
            return math.inf
        self._model.config._attn_implementation = self._way.attention
        mode = self._model.training
        self._model.train(self._trains)
        start = self._now(clock)
        try:
            with torch.set_grad_enabled(self._trains), self._accelerator.autocast():
                total = fused_pass(self._model, self._batch).log_probs.sum()
            if self._trains:
                total.backward()
            return self._now(clock) - start
        except torch.OutOfMemoryError:
            self._failed = True
        except Exception as error:  # kernels that a GPU compiles may fail in many ways
            logger.warning(f"{self._way.name} fails ({type(error).__name__}: {error})")
            self._failed = True
        finally:
            self._model.zero_grad(set_to_none=True)
            self._model.train(mode)
        torch.cuda.empty_cache()
        return math.inf

    def _now(self, clock: Callable[[], float]) -> float:
        if self._accelerator.device.type == "cuda":
            torch.cuda.synchronize()
        return clock()

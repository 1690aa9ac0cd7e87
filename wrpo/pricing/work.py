"""What a stage computes on one kind of GPU, added up with the lines that explain it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from wrpo.pricing.arithmetic import attended_pairs, forward_flops, training_passes
from wrpo.pricing.memory import Memory, checkpointing
from wrpo.pricing.shapes import Shape
from wrpo.pricing.throughput import GPU
from wrpo.recipe.training_sections import Training

EPOCHS = 3
"""Default of transformers' `num_train_epochs`."""


@dataclass(frozen=True)
class Rows:
    """Rows of one prompt and the answers that share it; mean lengths in tokens."""

    count: float
    prompt: float
    answers: Sequence[float] = ()

    @property
    def tokens(self) -> float:
        """Of all rows."""
        return self.count * self.each

    @property
    def each(self) -> float:
        """Of one row."""
        return self.prompt + sum(self.answers)

    @property
    def pairs(self) -> float:
        """Pairs of a token and one that it attends to, of all rows."""
        return self.count * attended_pairs(self.prompt, self.answers)


@dataclass
class Work:
    """Tokens, seconds of GPU time, memory, and how they come about."""

    gpu: GPU
    gpus: int = 1
    tokens: float = 0.0
    seconds: float = 0.0
    basis: str = "table"
    memory: Memory | None = None
    lines: list[str] = field(default_factory=list)

    def decode(self, tokens: float, *, speed: float, told: str) -> None:
        """Writes answer tokens at a speed per GPU."""
        self.tokens += tokens
        self.seconds += tokens / speed
        self.lines.append(
            f"/ {speed:,.0f} tokens/s and GPU ({told}) = {tokens / speed / 3600:,.2f} GPU hours"
        )

    def read(self, shape: Shape, rows: Rows, *, what: str) -> None:
        """One forward pass over the rows."""
        flops = forward_flops(shape, tokens=rows.tokens, pairs=rows.pairs)
        self.tokens += rows.tokens
        self.lines.append(
            f"{what}: {rows.count:,.0f} x {rows.each:,.0f} = {short(rows.tokens)} tokens; 2 x "
            f"{short(shape.active)} parameters x tokens + attention = "
            + self._compute(flops, self.gpu.prefill_utilization)
        )

    def train(self, shape: Shape, settings: Training, rows: Rows, *, told: str) -> None:
        """Forward and backward passes over the rows."""
        again = checkpointing(settings)
        passes = training_passes(checkpointing=again, adapters=settings.lora is not None)
        flops = passes * forward_flops(shape, tokens=rows.tokens, pairs=rows.pairs)
        self.tokens += rows.tokens
        self.lines.append(
            f"{told} = {rows.count:,.0f} rows x {rows.each:,.0f} tokens = {short(rows.tokens)} "
            "tokens"
        )
        self.lines.append(
            f"{passes} passes (forward, backward{', forward again' if again else ''}) x (2 x "
            f"{short(shape.active)} parameters x tokens + attention) = "
            + self._compute(flops, self.gpu.training_utilization)
        )

    def _compute(self, flops: float, utilization: float) -> str:
        seconds = flops / (self.gpu.peak_tflops * 1e12 * utilization)
        self.seconds += seconds
        return (
            f"{flops:.3g} operations / ({self.gpu.peak_tflops:g}e12/s x {utilization:g}) = "
            f"{seconds / 3600:,.2f} GPU hours"
        )


def short(number: float) -> str:
    """1.2K, 3.4M, 5.6B, 7.8T."""
    for size, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if number >= size:
            return f"{number / size:,.3g}{name}"
    return f"{number:,.0f}"

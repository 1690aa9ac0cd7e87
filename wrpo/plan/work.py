"""What a stage computes on one kind of GPU, added up with the lines that explain it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from wrpo.plan.formulas import attended_pairs, forward_flops, short, training_passes
from wrpo.plan.memory import Memory, checkpointing, micro_batch
from wrpo.plan.model_shape import Shape
from wrpo.plan.throughput import GPU
from wrpo.training.settings import Training

EPOCHS = 3
"""Default of transformers' `num_train_epochs`."""


@dataclass(frozen=True)
class RowCount:
    """Rows of one prompt and the responses that share it; mean lengths in tokens."""

    count: float
    prompt: float
    responses: Sequence[float] = ()

    @property
    def tokens(self) -> float:
        """Of all rows."""
        return self.count * self.each

    @property
    def each(self) -> float:
        """Of one row."""
        return self.prompt + sum(self.responses)

    @property
    def pairs(self) -> float:
        """Pairs of a token and one that it attends to, of all rows."""
        return self.count * attended_pairs(self.prompt, self.responses)


@dataclass
class Work:
    """Tokens, memory, and the terms of the price.

    Attributes:
        notes: what the price leaves out.
    """

    gpu: GPU
    gpus: int = 1
    tokens: float = 0.0
    basis: str = "table"
    memory: Memory | None = None
    terms: list[Term] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def tell(self, text: str) -> None:
        """A line that only says where a number is from."""
        self.terms.append(Term(text))

    def decode(self, tokens: float, *, speed: float, origin: str) -> None:
        """Writes response tokens at a speed per GPU."""
        self.tokens += tokens
        text = f"{short(tokens)} response tokens / {speed:,.0f} tokens/s and GPU ({origin})"
        self.terms.append(Term(text, gpu_hours=tokens / speed / 3600))

    def read(self, shape: Shape, rows: RowCount, *, what: str) -> None:
        """One forward pass over the rows."""
        self.tokens += rows.tokens
        self.tell(
            f"{what}: {rows.count:,.0f} x {rows.each:,.0f} tokens = {short(rows.tokens)} tokens"
        )
        self._compute(shape, rows, 1, self.gpu.prefill_utilization, "forward")

    def train(self, shape: Shape, settings: Training, rows: RowCount, *, origin: str) -> None:
        """Forward and backward passes over the rows."""
        again = checkpointing(settings)
        passes = training_passes(checkpointing=again, adapters=settings.lora is not None)
        self.tokens += rows.tokens
        self.tell(
            f"{origin} = {rows.count:,.0f} rows x {rows.each:,.0f} tokens = {short(rows.tokens)} "
            "tokens"
        )
        named = f"forward, backward{', forward again' if again else ''}"
        error = self.gpu.training_error
        named += f"; measured times lie within {error:.0%}" if error is not None else ""
        hours = self._compute(shape, rows, passes, self.gpu.training_utilization, named)
        self._wait_for_launches(shape, settings, rows, computed=hours)

    def _wait_for_launches(
        self, shape: Shape, settings: Training, rows: RowCount, *, computed: float
    ) -> None:
        """What small micro-batches wait for Python and the launches of kernels."""
        each = self.gpu.micro_batch_ms_per_layer
        tokens = micro_batch(settings, rows.each, memory=self.memory, room=self.gpu.memory_gib)
        count = rows.tokens / tokens
        hours = count * shape.layers * each / 1000 / 3600
        if hours > computed:
            text = (
                f"{count:,.0f} micro-batches of {tokens:,.0f} tokens x {shape.layers} layers x "
                f"{each:g} ms wait for Python: {hours:.3g} GPU hours instead of {computed:.3g}"
            )
            self.terms.append(Term(text, gpu_hours=hours - computed))

    def pay(self, calls: str, *, read: float, written: float, prices: tuple[float, float]) -> None:
        """Tokens that a vendor's model reads and writes; prices in dollars per million."""
        self.tokens += read + written
        dollars = (read * prices[0] + written * prices[1]) / 1e6
        text = (
            f"{calls}{short(read)} tokens in x ${prices[0]:g} + {short(written)} out x "
            f"${prices[1]:g} per million"
        )
        self.terms.append(Term(text, dollars=dollars))

    def _compute(
        self, shape: Shape, rows: RowCount, passes: int, utilization: float, named: str
    ) -> float:
        """GPU hours, which are a term of the price."""
        each = forward_flops(shape, tokens=rows.tokens, pairs=rows.pairs)
        matrices = forward_flops(shape, tokens=rows.tokens, pairs=0)
        times = f"{passes} passes ({named}) x " if passes > 1 else ""
        text = (
            f"{times}(2 x {short(shape.active)} parameters x {short(rows.tokens)} tokens + "
            f"{each - matrices:.2e} for attention) = {passes * each:.3g} operations / "
            f"({self.gpu.peak_tflops:g}e12/s x {utilization:g})"
        )
        seconds = passes * each / (self.gpu.peak_tflops * 1e12 * utilization)
        self.terms.append(Term(text, gpu_hours=seconds / 3600))
        return seconds / 3600


NO_PROMPTS = "number of prompts unknown: run `make prompts`, or write prompts.expected_prompts"
NO_ROWS = "number of rows unknown until the table is built"


class UnknownPrice(Exception):
    """Something that a price needs is not known; the message says what."""


@dataclass(frozen=True)
class Term:
    """One line of a price; without GPU hours and dollars it only says where a number is from.

    Attributes:
        gpu_hours: of all GPUs together.
        dollars: paid to a vendor, beside the price of GPUs.
    """

    text: str
    gpu_hours: float | None = None
    dollars: float | None = None


@dataclass(frozen=True)
class StageEstimate:
    """The whole stage, and the share of it that is left; None is not known.

    Attributes:
        tokens: read and written.
        gpus: that work together; 0 for a stage without GPU.
        gpu_price: dollars of one GPU hour.
        left: share that is still to do, 0 when done.
        basis: what the speed is from.
        terms: their GPU hours and dollars add up to the price.
        note: what the price leaves out.
        unknown: why there is no price.
    """

    stage: str
    tokens: float | None = None
    gpus: int = 0
    gpu_price: float = 0.0
    memory: Memory | None = None
    left: float = 1.0
    basis: str = ""
    terms: tuple[Term, ...] = ()
    note: str = ""
    unknown: str = ""

    @property
    def gpu_hours(self) -> float | None:
        """Of all GPUs together."""
        return None if self.unknown else sum(term.gpu_hours or 0.0 for term in self.terms)

    @property
    def dollars(self) -> float | None:
        """Of GPUs and vendors."""
        if self.gpu_hours is None:
            return None
        return self.gpu_hours * self.gpu_price + sum(term.dollars or 0.0 for term in self.terms)

    @property
    def hours(self) -> float | None:
        """Wall time on `gpus` GPUs; None also where others compute."""
        return self.gpu_hours / self.gpus if self.gpu_hours is not None and self.gpus else None

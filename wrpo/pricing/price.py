"""What a plan says of one stage: its price, the sum that it comes from, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass

from wrpo.pricing.memory import Memory

NO_PROMPTS = "number of prompts unknown: run `make prompts`, or write prompts.expected_prompts"
NO_ROWS = "number of rows unknown until the table is built"


class UnknownPrice(Exception):
    """Something that a price needs is not known; the message says what."""


@dataclass(frozen=True)
class Term:
    """One line of a price; without GPU hours and dollars it only tells where a number is from.

    Attributes:
        gpu_hours: of all GPUs together.
        dollars: paid to a vendor, beside the price of GPUs.
    """

    text: str
    gpu_hours: float | None = None
    dollars: float | None = None


@dataclass(frozen=True)
class Estimate:
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

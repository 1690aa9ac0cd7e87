"""What judgements cost, before and after."""

from __future__ import annotations

from dataclasses import dataclass

from wrpo.judging.settings import JudgeModel

CHARACTERS_PER_TOKEN = 4.0
"""Of English text; used until judgements of the same kind have been measured."""


@dataclass(frozen=True)
class Tokens:
    """Input and output tokens."""

    input: int = 0
    output: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.input + other.input, self.output + other.output)

    def dollars(self, settings: JudgeModel) -> float | None:
        """The price, where the recipe has both prices."""
        price_in, price_out = settings.engine.input_price, settings.engine.output_price
        if price_in is None or price_out is None:
            return None
        return (self.input * price_in + self.output * price_out) / 1e6


@dataclass(frozen=True)
class Cost:
    """What asking will cost, or has cost.

    Attributes:
        judgements: all distinct requests.
        cached: those on disk already.
        tokens: of the others; before they are sent an estimate, and the most for the output where
            nothing of the kind was measured.
        dollars: None where the recipe has no prices.
    """

    judgements: int
    cached: int
    tokens: Tokens
    dollars: float | None

    @property
    def sent(self) -> int:
        """Requests that go, or went, to the servers."""
        return self.judgements - self.cached

    def __str__(self) -> str:
        price = "no price known" if self.dollars is None else f"${self.dollars:.2f}"
        return (
            f"{self.judgements} judgements, {self.cached} of them cached; {self.sent} to ask: "
            f"{self.tokens.input} input and {self.tokens.output} output tokens, {price}"
        )


def output_bound(*, measured: float | None, limit: int | None, unknown: int = 1024) -> float:
    """Output tokens to expect of one judgement: the measured mean, else the limit."""
    if measured is not None:
        return measured
    return unknown if limit is None else limit

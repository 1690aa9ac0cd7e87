"""Synthetic lengths of triples, and the tokens that each layout computes for them.

Usage: python -m benchmarks.lengths

Three kinds of data set: `uf` like UltraFeedback, `long` prompts, `short` prompts. A prompt has a
log-normal length; so have its three responses, whose logarithms share half of their variance: a
prompt that wants a long response wants it from every model. The command prints a census of 6400
triples per kind: how much of a padded batch is padding, how much of the data repeats a prompt, and
what sharing prompts and dropping padding is worth in tokens.
"""

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, sqrt
from statistics import fmean

CENSUS = 6400
_SHORTEST = 4
_LONGEST_RESPONSE = 1024

# Prompt tokens and tokens of its three responses.
Lengths = tuple[int, tuple[int, int, int]]


@dataclass(frozen=True)
class Kind:
    """Median and spread (standard deviation of the logarithm) of both lengths, in tokens."""

    prompt: float
    prompt_spread: float
    longest_prompt: int
    response: float
    response_spread: float


KINDS = {
    "uf": Kind(113, 1.01, 1800, 297, 0.58),
    "long": Kind(1433, 0.30, 3000, 264, 0.50),
    "short": Kind(44, 0.80, 1800, 334, 0.58),
}


def triple_lengths(kind: str, count: int, seed: int) -> list[Lengths]:
    """Prompt and response lengths of `count` triples; equal arguments give equal lengths.

    Raises:
        KeyError: `kind` is none of KINDS.
    """
    shape = KINDS[kind]
    draw = random.Random(f"{kind} {seed}")

    def length(median: float, spread: float, deviation: float, longest: int) -> int:
        return max(_SHORTEST, min(longest, round(median * exp(spread * deviation))))

    def response(common: float) -> int:
        deviation = (common + draw.gauss(0, 1)) / sqrt(2)
        return length(shape.response, shape.response_spread, deviation, _LONGEST_RESPONSE)

    triples = []
    for _ in range(count):
        prompt = length(shape.prompt, shape.prompt_spread, draw.gauss(0, 1), shape.longest_prompt)
        common = draw.gauss(0, 1)
        triples.append((prompt, (response(common), response(common), response(common))))
    return triples


def batches_of(triples: Sequence[Lengths], size: int) -> list[Sequence[Lengths]]:
    """Consecutive batches of `size` triples."""
    return [triples[i : i + size] for i in range(0, len(triples), size)]


def padded_tokens(batch: Sequence[Lengths]) -> int:
    """Tokens of a batch with one row per response, padded to the longest."""
    width = max(prompt + max(responses) for prompt, responses in batch)
    return sum(len(responses) for _, responses in batch) * width


def pair_tokens(batch: Sequence[Lengths]) -> int:
    """Tokens of the padded batch of the pairs (chosen, rejected), without source_chosen."""
    width = max(prompt + max(chosen, rejected) for prompt, (_, chosen, rejected) in batch)
    return 2 * len(batch) * width


def packed_tokens(batch: Sequence[Lengths]) -> int:
    """Tokens without padding, each response with a copy of its prompt."""
    return sum(3 * prompt + sum(responses) for prompt, responses in batch)


def shared_tokens(batch: Sequence[Lengths]) -> int:
    """Tokens of `wrpo.prefix.packing`: the prompt once, its last token before every response."""
    return sum(prompt - 1 + sum(n + 1 for n in responses) for prompt, responses in batch)


def token_ratios(triples: Sequence[Lengths], size: int) -> tuple[float, float]:
    """Tokens of padded batches of `size` over those of the packed and of the shared layout."""
    padded = sum(padded_tokens(batch) for batch in batches_of(triples, size))
    return padded / packed_tokens(triples), padded / shared_tokens(triples)


def typical_triples(kind: str, size: int, batches: int) -> list[Lengths]:
    """A few batches whose token ratios are near those of the census.

    Single batches differ by a factor of two; of 200 draws this is the nearest.
    """
    census = token_ratios(triple_lengths(kind, CENSUS, seed=0), size)

    def distance(triples: list[Lengths]) -> float:
        ratios = token_ratios(triples, size)
        return max(abs(a / b - 1) for a, b in zip(ratios, census, strict=True))

    draws = (triple_lengths(kind, size * batches, seed) for seed in range(1, 201))
    return min(draws, key=distance)


def census(kind: str) -> str:
    """Means, padding, repeated prompts and token ratios of one kind, as a line of the table."""
    triples = triple_lengths(kind, CENSUS, seed=0)
    prompts = sorted(prompt for prompt, _ in triples)
    real = packed_tokens(triples)
    cells = [
        f"{kind:5}",
        f"{fmean(prompts):6.0f} {prompts[CENSUS // 2]:6} {prompts[CENSUS * 99 // 100]:6}",
        f"{fmean(n for _, responses in triples for n in responses):8.0f}",
        f"{2 * sum(prompts) / real:8.1%}",
    ]
    for size in (2, 4):
        packed, shared = token_ratios(triples, size)
        cells.append(f"{1 - 1 / packed:8.1%} {shared:6.2f}")
    return "  ".join(cells)


def main() -> None:
    lines = [
        f"{CENSUS} triples per kind, lengths in tokens",
        "       prompt                 response  prompts   2 prompts per batch  4 per batch",
        "         mean median    p99      mean  repeated   padding  ratio    padding  ratio",
        *map(census, KINDS),
        "ratio: tokens of padded rows over tokens with shared prompts and no padding",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

"""Synthetic lengths of triples: log-normal around the means of three kinds of data sets."""

import math

import torch

# Mean and median of the prompt, mean of each response, in tokens.
LENGTHS = {
    "UltraFeedback": (185, 113, 345),
    "long prompts": (1499, 1400, 297),
    "short prompts": (60, 55, 391),
}
LONGEST_PROMPT = 1800
LONGEST_RESPONSE = 1024


def triple_lengths(kind: str, count: int, seed: int) -> list[tuple[int, tuple[int, int, int]]]:
    """Tokens of the prompt and of the three responses of `count` triples of one kind."""
    generator = torch.Generator().manual_seed(seed)
    mean, median, response = LENGTHS[kind]

    def length(mean: float, median: float, most: int) -> int:
        spread = math.sqrt(2 * math.log(mean / median))
        drawn = median * math.exp(spread * torch.randn((), generator=generator).item())
        return max(4, min(most, round(drawn)))

    def answer() -> int:
        return length(response, 0.87 * response, LONGEST_RESPONSE)

    return [
        (length(mean, median, LONGEST_PROMPT), (answer(), answer(), answer())) for _ in range(count)
    ]

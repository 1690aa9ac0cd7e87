"""Noise has the distribution it says, and depends on seed, prompt and response alone."""

import math
import statistics

from wrpo.rewards.base import Candidate
from wrpo.rewards.noise import NoiseReward


def numbers(count: int = 4000, *, seed: int = 0, prompt: str = "Hello") -> list[float]:
    messages = [{"role": "user", "content": prompt}]
    candidates = [Candidate(messages, f"response {n}", None) for n in range(count)]
    scores = NoiseReward(type="noise", seed=seed).load().score(candidates)
    return [score for score in scores if isinstance(score, float)]


def test_noise_is_standard_normal() -> None:
    drawn = numbers()
    assert len(drawn) == 4000
    assert abs(statistics.fmean(drawn)) < 4 / math.sqrt(4000)
    assert abs(statistics.stdev(drawn) - 1) < 0.05
    assert abs(sum(abs(number) < 1 for number in drawn) / 4000 - 0.6827) < 0.03


def test_noise_is_the_same_again_and_other_for_other_seeds_and_prompts() -> None:
    drawn = numbers(200)
    assert drawn == numbers(200)
    for other in (numbers(200, seed=1), numbers(200, prompt="Hi")):
        assert abs(statistics.correlation(drawn, other)) < 0.3

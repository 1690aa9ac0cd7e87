"""Length bias against scipy's correlation and by hand."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from eval.reporting.length_bias import mean_rank_correlation


def test_the_correlation_is_the_mean_of_scipys_over_prompts() -> None:
    rng = np.random.default_rng(0)
    prompts = np.repeat([f"p{i}" for i in range(20)], 5)
    prompts = np.concatenate([prompts, np.repeat(["q1", "q2"], 8)])
    lengths = rng.integers(1, 9, size=len(prompts)).astype(float)
    scores = 0.3 * lengths + rng.normal(size=len(prompts))
    order = rng.permutation(len(prompts))
    found = mean_rank_correlation(prompts[order], lengths[order], scores[order])
    reference = [
        spearmanr(lengths[prompts == name], scores[prompts == name]).statistic
        for name in np.unique(prompts)
    ]
    assert found is not None
    assert found.value == pytest.approx(np.mean(reference))
    assert found.n == 22


def test_prompts_that_say_nothing_are_left_out() -> None:
    prompts = np.array(["a"] * 3 + ["b"] * 3 + ["c"] * 2 + ["d"] * 3)
    lengths = np.array([1.0, 2, 3, 5, 5, 5, 1, 2, 1, 2, 3])
    scores = np.array([1.0, 2, 3, 1, 2, 3, 1, 2, 3, 2, 1])
    found = mean_rank_correlation(prompts, lengths, scores)
    assert found is not None
    assert (found.value, found.n) == (pytest.approx(0.0), 2)
    assert mean_rank_correlation(prompts[:3], lengths[:3], scores[:3]) is None

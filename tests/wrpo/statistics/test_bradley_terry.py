"""Arena-Hard's statistics against scikit-learn, closed forms and simulated battles."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from wrpo.benchmarks.arena_hard import style_counts, style_difference
from wrpo.statistics.bradley_terry import (
    Battles,
    published_interval,
    question_interval,
    style_controlled,
    style_interval,
)


def simulated(
    seed: int, questions: int = 200, strength: float = 0.0, spread: float = 0.0
) -> Battles:
    """Two games per question; `spread` is the standard deviation of the questions' own odds."""
    rng = np.random.default_rng(seed)
    question = np.repeat(np.arange(questions), 2)
    odds = strength + spread * rng.normal(size=questions)[question]
    score = (rng.random(2 * questions) < 1 / (1 + np.exp(-odds))).astype(float)
    score[rng.random(len(score)) < 0.1] = 0.5
    weight = np.where((score != 0.5) & (rng.random(len(score)) < 0.3), 3.0, 1.0)
    return Battles(score, weight, question)


def published_design(battles: Battles, style: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the published fit: one rating per model, all battles twice, a tie as one win each."""
    rows = np.repeat(np.arange(len(battles.score)), battles.weight.astype(int))
    score = np.concatenate([battles.score[rows]] * 2)
    # The baseline is model_a there, so signs turn round.
    columns = [np.full(len(score), math.log(10)), np.full(len(score), -math.log(10))]
    design = np.column_stack([*columns, *np.concatenate([-style[rows]] * 2).T])
    baseline_won = score == 0
    baseline_won[: len(rows)] |= score[: len(rows)] == 0.5
    return design, baseline_won.astype(int)


def test_the_closed_form_is_the_maximum_of_the_likelihood() -> None:
    battles = simulated(1)
    design, won = published_design(battles, np.empty((len(battles.score), 0)))
    fit = LogisticRegression(fit_intercept=False, C=np.inf, tol=1e-10, max_iter=10_000)
    ratings = 400 * fit.fit(design, won).coef_[0]
    assert battles.win_rate() == pytest.approx(
        1 / (1 + 10 ** ((ratings[0] - ratings[1]) / 400)), abs=1e-6
    )


def test_a_clear_verdict_counts_three_times() -> None:
    battles = Battles(np.array([1.0, 0.0, 0.5]), np.array([3.0, 1.0, 1.0]), np.array([0, 0, 1]))
    assert battles.win_rate() == pytest.approx(3.5 / 5)
    assert battles.expanded().tolist() == [1, 1, 1, 0, 0.5]


def test_style_control_is_scikit_learns_penalised_fit() -> None:
    battles = simulated(2, strength=0.5)
    style = np.random.default_rng(3).normal(size=(len(battles.score), 4)) * [1, 2, 0.1, 0]
    rate, effects = style_controlled(battles, style)
    expanded = np.repeat(style, battles.weight.astype(int), axis=0)
    design, won = published_design(battles, style[:, :3] / expanded.std(axis=0)[:3])
    fit = LogisticRegression(fit_intercept=False, tol=1e-12, max_iter=100_000).fit(design, won)
    ratings = fit.coef_[0]
    assert rate == pytest.approx(1 / (1 + 10 ** (ratings[0] - ratings[1])), abs=1e-6)
    assert effects[:3] == pytest.approx(ratings[2:], abs=1e-5)
    assert effects[3] == 0.0


def test_style_control_takes_out_a_preference_for_length() -> None:
    rng = np.random.default_rng(4)
    length = rng.normal(1.0, 1.0, size=(4000, 1))
    odds = 0.2 + 1.5 * length[:, 0]
    score = (rng.random(4000) < 1 / (1 + np.exp(-odds))).astype(float)
    battles = Battles(score, np.ones(4000), np.arange(4000))
    rate, effects = style_controlled(battles, length)
    assert battles.win_rate() > 0.7
    assert rate == pytest.approx(1 / (1 + math.exp(-0.2)), abs=0.04)
    assert effects[0] == pytest.approx(1.5, abs=0.2)
    low, high = style_interval(battles, length, rounds=50)
    assert low < rate < high < battles.win_rate()


def test_intervals_of_resampled_questions_cover_and_those_of_battles_are_too_narrow() -> None:
    truth = simulated(0, questions=200_000, strength=0.3, spread=2.0).win_rate()
    ours = theirs = 0
    for seed in range(1, 301):
        battles = simulated(seed, questions=150, strength=0.3, spread=2.0)
        low, high = question_interval(battles, rounds=400, seed=seed)
        ours += low <= truth <= high
        low, high = published_interval(battles, seed=seed)
        theirs += low <= truth <= high
    assert 0.92 <= ours / 300 <= 0.98
    assert theirs / 300 < 0.90


def test_style_counts_blank_lines_in_linear_time() -> None:
    start = time.process_time()
    assert style_counts(" \n" * 50_000 + "- a")[2] == 1
    assert time.process_time() - start < 3


def test_style_counts_markdown_outside_code() -> None:
    text = "# Title\n## Part\n- one\n* two\n3. three\n**bold** and __bold__\n```\n# no\n- no\n```"
    assert style_counts(text) == (len(text), 2, 3, 2)
    assert style_difference("ab", "ab").tolist() == [0, 0, 0, 0]
    assert style_difference("abc", "")[0] == pytest.approx(3 / 4)

"""A language model as the judge of answers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Protocol

from wrpo.engines.openai_client import api_key
from wrpo.judging import Judge, JudgementCache, JudgeRequest, Verdict, cache_path
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import RESPONSES, Drop, RowLookup
from wrpo.recipe.judges import JudgeModel
from wrpo.recipe.rewards import JudgeReward
from wrpo.rewards.base import Candidate
from wrpo.rewards.judge_comparison import Comparison
from wrpo.rewards.judge_grade import Grade

logger = logging.getLogger(__name__)


class Question(Protocol):
    """What the judge is asked about an answer, and how its replies are read."""

    def requests(self, candidate: Candidate) -> Sequence[JudgeRequest] | float | Drop:
        """One request for each wording; or the score, or a refusal, where nothing is to ask."""

    def read(self, wording: int, verdict: Verdict) -> float | str:
        """The number that a reply to a wording says, or why it says none."""


class JudgeScores:
    """The mean over all judgements of each answer.

    Judgements are kept in RUNS/judgements.sqlite, so that a second start asks only for what is
    missing. Replies that cannot be read are counted and left out of the mean; an answer is refused
    where no reply to one of its wordings can be read.

    Args:
        cache: the file of judgements.

    Raises:
        RecipeError: the judge's API key is not in the environment.
        ModelError: the judge cannot be asked, or gives no log-probs where they are needed.
    """

    def __init__(
        self, settings: JudgeReward, judge: JudgeModel, question: Question, cache: Path
    ) -> None:
        api_key(judge.api_key_env, f"judges.{settings.judge}")
        self._name, self._judge = settings.judge, judge
        self._samples, self._question, self._cache = settings.samples, question, cache
        self._unread = 0

    def score(self, candidates: list[Candidate]) -> list[float | Drop]:
        """One number per candidate; those that the judge cannot or does not judge are refused."""
        found = [self._question.requests(candidate) for candidate in candidates]
        draws = [draw for asked in found for draw in self._draws(asked)]
        replies = iter(self._ask(draws) if draws else [])
        self._unread = 0
        scores = [
            asked
            if isinstance(asked, (float, Drop))
            else self._value([[next(replies) for _ in range(self._samples)] for _ in asked])
            for asked in found
        ]
        if self._unread:
            logger.warning(
                "judge %s: %d of %d replies cannot be read", self._name, self._unread, len(draws)
            )
        return scores

    def _draws(self, asked: Sequence[JudgeRequest] | float | Drop) -> list[JudgeRequest]:
        if isinstance(asked, (float, Drop)):
            return []
        if self._samples == 1:
            return list(asked)
        return [
            JudgeRequest(one.messages, one.template, seed=seed)
            for one in asked
            for seed in range(self._samples)
        ]

    def _ask(self, draws: list[JudgeRequest]) -> list[Verdict]:
        with JudgementCache(self._cache) as cache:
            judge = Judge(self._name, self._judge, cache)
            logger.info("judge %s: %s", self._name, judge.estimate(draws))
            return judge.ask(draws)

    def _value(self, replies: list[list[Verdict]]) -> float | Drop:
        """The mean over the wordings of the mean over the draws that can be read."""
        means = []
        for wording, verdicts in enumerate(replies):
            read = [self._question.read(wording, verdict) for verdict in verdicts]
            numbers = [value for value in read if isinstance(value, float)]
            self._unread += len(read) - len(numbers)
            if not numbers:
                return Drop("judge_unparsed", str(read[0]))
            means.append(fmean(numbers))
        return fmean(means)


def load_judge_reward(settings: JudgeReward, pipeline: Pipeline) -> JudgeScores:
    """The reward of a recipe entry.

    Raises:
        MissingInputError: the opponent is not sampled yet.
    """
    recipe = pipeline.recipe
    question: Question = Grade(settings, recipe.judges[settings.judge])
    if settings.opponent is not None:
        folder = pipeline.finished(f"sample/{settings.opponent}")
        question = Comparison(settings, RowLookup(folder, RESPONSES))
    cache = cache_path(recipe.runs)
    return JudgeScores(settings, recipe.judges[settings.judge], question, cache)

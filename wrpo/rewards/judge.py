"""A language model as the judge of responses."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import Field, field_validator, model_validator

from wrpo.files import is_file
from wrpo.judging import (
    Judge,
    JudgementCache,
    JudgeModel,
    JudgeRequest,
    Verdict,
    cache_path,
    judge_identity,
)
from wrpo.judging.questions import fields_of, template_name
from wrpo.pipeline.tables import RESPONSES, Drop, RowLookup
from wrpo.rewards.base import Candidate, JudgeCalls, RewardSettings
from wrpo.rewards.patterns import UserPattern
from wrpo.rewards.questions import comparison, grade

if TYPE_CHECKING:
    from wrpo.pipeline.pipeline import Pipeline
    from wrpo.recipe import Recipe

logger = logging.getLogger(__name__)


class JudgeReward(RewardSettings):
    """A model that grades each response, or compares it with a response of another model."""

    type: Literal["judge"]
    judge: str = Field(description="Name under `judges`.")
    opponent: str | None = Field(
        None,
        description="A source. Each response is compared with that source's first response to the "
        "same prompt, in both orders; the score is the mean share of wins, a tie being one half. "
        "Unset: each response gets a grade.",
    )
    prompt: Path | None = Field(
        None,
        description="Text file with the question: {{prompt}} and {{response}}, or {{response_a}} "
        "and {{response_b}}; also {{low}}, {{high}} and {{tag}}, which is another one for each "
        "question and stands in no response: <reply-{{tag}}>. Unset: a general one.",
    )
    pattern: str | None = Field(
        None,
        description="Regular expression; the last match behind the judge's thoughts counts. Its "
        "group `rating` is the grade, or its group `verdict` is A, B or tie. Unset: [[7]], or "
        "[[A]].",
    )
    scale: tuple[float, float] = Field((1, 10), description="Lowest and highest grade.")
    samples: int = Field(
        1, ge=1, description="Judgements per response, or per order; the score is their mean."
    )
    expected: bool = Field(
        False,
        description="The grade is the mean over the digits of the scale, weighted by the judge's "
        "probabilities; for endpoints that give log-probs, and scales within 0 to 9.",
    )

    @property
    def template(self) -> str:
        """The text of the question."""
        if self.prompt is not None:
            return self.prompt.read_text(encoding="utf-8")
        if self.opponent is not None:
            return comparison.COMPARISON
        return grade.DIGIT if self.expected else grade.RATING

    @property
    def reply_pattern(self) -> UserPattern | None:
        """Finds the grade or the verdict in a reply; None: as the toolkit's prompts ask for it."""
        return UserPattern(self.pattern) if self.pattern else None

    @field_validator("scale")
    @classmethod
    def _ascending(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if scale[0] >= scale[1]:
            raise ValueError(f"the first must be below the second, not {list(scale)}")
        return scale

    @model_validator(mode="after")
    def _pattern_has_its_group(self) -> JudgeReward:
        group = "verdict" if self.opponent else "rating"
        try:
            pattern = self.reply_pattern
        except ValueError as error:
            raise ValueError(f"pattern: {error}") from None
        if pattern is not None and group not in pattern.groups:
            raise ValueError(f"pattern: must hold a group named {group}: (?P<{group}>...)")
        return self

    @model_validator(mode="after")
    def _question_has_its_fields(self) -> JudgeReward:
        if self.prompt is None:
            return self
        if not is_file(self.prompt):
            raise ValueError(f"prompt: no such file: {self.prompt}")
        needed = {"prompt", *(("response_a", "response_b") if self.opponent else ("response",))}
        found = fields_of(self.template)
        if old := found & {"answer", "answer_a", "answer_b"}:
            names = ", ".join(f"{{{{{name}}}}}" for name in sorted(old))
            raise ValueError(
                f"prompt: {self.prompt}: {names} is now called "
                + names.replace("answer", "response")
            )
        if needed - found or found - needed - {"low", "high", "tag"}:
            raise ValueError(
                f"prompt: {self.prompt} must have the fields {sorted(needed)} and may have low, "
                f"high and tag; it has {sorted(found)}"
            )
        return self

    @model_validator(mode="after")
    def _digits_are_one_token(self) -> JudgeReward:
        if not self.expected:
            return self
        low, high = self.scale
        if self.opponent or self.samples > 1:
            raise ValueError("expected: goes with neither opponent nor samples; unset them")
        if low != int(low) or high != int(high) or low < 0 or high > 9:
            raise ValueError(
                f"expected: reads one digit, so that scale must be whole numbers within 0 to 9, "
                f"e.g. [1, 9], not {[low, high]}"
            )
        return self

    def load(self, pipeline: Pipeline | None = None) -> JudgeScores:
        """The judge and its question.

        Raises:
            MissingInputError: the opponent is not sampled yet.
        """
        if pipeline is None:
            raise TypeError("a judge needs the run that names it")
        recipe = pipeline.recipe
        judge = recipe.judges[self.judge]
        return JudgeScores(self, judge, self._question(judge, pipeline), cache_path(recipe.runs))

    def _question(self, judge: JudgeModel, pipeline: Pipeline) -> JudgeQuestion:
        if self.opponent is None:
            return grade.Grade(
                self.template,
                self.reply_pattern,
                scale=self.scale,
                expected=self.expected,
                judge=f"judges.{self.judge}: {judge.model}",
            )
        responses = RowLookup(pipeline.finished(f"sample/{self.opponent}"), RESPONSES)
        return comparison.JudgeComparison(
            self.template,
            self.reply_pattern,
            opponent=self.opponent,
            responses=responses,
            thoughts=pipeline.recipe.score.thoughts,
        )

    def key_settings(self, recipe: Recipe) -> dict[str, Any]:
        """Who judges, and the words of the question."""
        return {
            **super().key_settings(recipe),
            "judge": judge_identity(self.judge, recipe.judges[self.judge]),
            "prompt": template_name("question", self.template),
        }

    def extra_inputs(self) -> tuple[str, ...]:
        """The responses of the opponent."""
        return (f"sample/{self.opponent}",) if self.opponent else ()

    def check_recipe(self, place: str, recipe: Recipe) -> None:
        """Judge and opponent are there, and several judgements can differ."""
        from wrpo.recipe.prompts import dataset_responses

        judge = recipe.judges.get(self.judge)
        if judge is None:
            known = ", ".join(recipe.judges) or "none"
            raise ValueError(f'{place}.judge: no judge "{self.judge}"; judges: {known}')
        sources = [*recipe.sources, *recipe.fusions, *dataset_responses(recipe.prompts)]
        if self.opponent is not None and self.opponent not in sources:
            known = ", ".join(sources)
            raise ValueError(f'{place}.opponent: no source "{self.opponent}"; sources: {known}')
        if self.samples > 1 and judge.temperature == 0:
            raise ValueError(
                f"{place}.samples: {self.samples} judgements at temperature 0 are equal; set "
                f"judges.{self.judge}.temperature"
            )

    def judge_calls(self) -> JudgeCalls:
        """Each response is graded, or compared with another's in both orders."""
        shown = 2 if self.opponent else 1
        return JudgeCalls(self.judge, self.samples * shown, shown, 1 if self.expected else None)

    def extras(self) -> frozenset[str]:
        """Judges are asked over HTTP."""
        return frozenset({"server"})

    def files(self) -> Mapping[str, Path]:
        """The question, where it is the user's own."""
        return {"prompt": self.prompt} if self.prompt is not None else {}


class JudgeQuestion(Protocol):
    """What the judge is asked about a response, and how its replies are read."""

    def requests(self, candidate: Candidate) -> Sequence[JudgeRequest] | float | Drop:
        """One request for each wording; or the score, or a refusal, where nothing is to ask."""

    def read(self, wording: int, verdict: Verdict) -> float | str:
        """The number that a reply to a wording says, or why it says none."""


class JudgeScores:
    """The mean over all judgements of each response.

    Judgements are kept in RUNS/judgements.sqlite, so that a second start asks only for what is
    missing. Replies that cannot be read are counted and left out of the mean; a response is refused
    where no reply to one of its wordings can be read.

    Args:
        cache: the file of judgements.

    Raises:
        RecipeError: the judge's API key is not in the environment.
        ModelError: the judge cannot be asked, or gives no log-probs where they are needed.
    """

    def __init__(
        self, settings: JudgeReward, judge: JudgeModel, question: JudgeQuestion, cache: Path
    ) -> None:
        from wrpo.engines.servers.client import api_key

        api_key(judge.engine.api_key_env, f"judges.{settings.judge}.engine")
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

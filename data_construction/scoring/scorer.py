"""The working core of the score stage: responses in, scores out; it writes nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import (
    RESPONSES,
    UNFINISHED,
    Drop,
    PromptLookup,
    Row,
    answer_of,
    read_parquet,
)
from wrpo.recipe import Recipe
from wrpo.rewards import Candidate, RewardModel

Heads = dict[str, float | Drop]
"""What each reward says of one response, by the name of the reward."""


class ScoredPart(NamedTuple):
    """What becomes of one part: rows of the tables SCORES and DROPPED, one per response."""

    part: Part
    rows: list[Row]
    dropped: list[Row]


class Scorer:
    """The rewards of a recipe, loaded when the first responses come.

    It is made from the recipe alone, so that any process can make one and be given work.

    Args:
        inputs: finished folders that another process has checked, by stage name.
    """

    def __init__(self, recipe: Recipe, *, inputs: Mapping[str, Path] | None = None) -> None:
        self.recipe = recipe
        self._pipeline = Pipeline(recipe, given=inputs)
        self._rewards: dict[str, RewardModel] | None = None
        self._prompts: PromptLookup | None = None

    def __call__(self, work: Iterable[Part]) -> Iterator[ScoredPart]:
        """Scores parts, lazily; the responses of a part to one prompt share it.

        A part is scored by itself. What is scored together decides the last digits of a network's
        numbers, and a part has the same responses however many sources, shards or starts there are.
        """
        for part in work:
            made = self.score(read_parquet(part.path, RESPONSES))
            kept = [row for row in made if "score" in row]
            yield ScoredPart(part, kept, [row for row in made if "score" not in row])

    def score(self, responses: Sequence[Row]) -> list[Row]:
        """A row of SCORES, or of DROPPED, for each response, in order."""
        rows: dict[int, Row] = {}
        domains: dict[int, str] = {}
        candidates: dict[int, Candidate] = {}
        for place, response in enumerate(responses):
            prompt = self.prompts[response["prompt_id"]]
            drop = self._unscorable(prompt, response)
            if drop:
                rows[place] = _dropped(response, drop)
            else:
                domains[place] = prompt["domain"]
                candidates[place] = _candidate(prompt, self._read(response))
        for place, heads in self._heads(domains, candidates).items():
            rows[place] = self._row(responses[place], heads)
        return [rows[place] for place in range(len(responses))]

    @property
    def rewards(self) -> dict[str, RewardModel]:
        """The loaded rewards of the recipe, by name."""
        if self._rewards is None:
            self._rewards = {
                name: settings.load(self._pipeline)
                for name, settings in self.recipe.rewards.items()
            }
        return self._rewards

    @property
    def prompts(self) -> PromptLookup:
        """The prompts of the run."""
        if self._prompts is None:
            self._prompts = PromptLookup(self._pipeline.finished("prompts"))
        return self._prompts

    def _unscorable(self, prompt: Row, response: Row) -> Drop | None:
        if not self._read(response).strip():
            unclosed = response["answer_start"] and response["finish_reason"] in UNFINISHED
            return Drop("unclosed_thought") if unclosed else Drop("empty_response")
        domain = prompt["domain"]
        if not any(reward.covers(domain) for reward in self.recipe.rewards.values()):
            return Drop("no_reward", f"domain {domain}")
        return None

    def _read(self, response: Row) -> str:
        """What rewards see of a response."""
        return str(response["text"]) if self.recipe.score.thoughts else answer_of(response)

    def _heads(self, domains: dict[int, str], candidates: dict[int, Candidate]) -> dict[int, Heads]:
        """What the rewards that cover each candidate's domain say of it."""
        heads: dict[int, Heads] = {place: {} for place in candidates}
        for name, reward in self.rewards.items():
            covers = self.recipe.rewards[name].covers
            places = [place for place in candidates if covers(domains[place])]
            values = reward.score([candidates[place] for place in places]) if places else []
            for place, value in zip(places, values, strict=True):
                heads[place][name] = value
        return heads

    def _row(self, response: Row, heads: Heads) -> Row:
        values: dict[str, float] = {}
        for name, value in heads.items():
            if not isinstance(value, float):
                return _dropped(response, Drop(value.reason, f"{name}: {value.detail}"))
            if not math.isfinite(value):
                return _dropped(response, Drop("score_not_finite", f"{name} gave {value}"))
            values[name] = value
        return {
            "prompt_id": response["prompt_id"],
            "source": response["source"],
            "index": response["index"],
            "score": sum(self.recipe.rewards[name].weight * v for name, v in values.items()),
            "rewards": [{"name": name, "value": value} for name, value in values.items()],
        }


def _candidate(prompt: Row, text: str) -> Candidate:
    return Candidate(prompt["messages"], text, prompt["reference_answer"], prompt["prompt_id"])


def _dropped(response: Row, drop: Drop) -> Row:
    return drop.row(response["prompt_id"], source=response["source"], index=response["index"])


class Part(NamedTuple):
    """One part of the responses of a source."""

    source: str
    number: int
    path: Path

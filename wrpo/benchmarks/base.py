"""What a judged benchmark is: its settings in a recipe, the files it reads, its protocol.

`eval.judged: {NAME: {...}}` takes the settings of the kind here whose `benchmark` is NAME.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import yaml
from pydantic import Field

from wrpo.benchmarks.shared.files import HubFile, fetch
from wrpo.benchmarks.shared.prompts import (
    OWN,
    PUBLISHED,
    JudgePromptParts,
    Templates,
    named_templates,
)
from wrpo.benchmarks.shared.questions import Question
from wrpo.benchmarks.shared.records import PERCENT, JudgedRecord, Summary
from wrpo.errors import DataError, MissingInputError, RecipeError
from wrpo.judging.request import JudgeRequest, Verdict
from wrpo.settings import Section


class JudgingProtocol(Protocol):
    """How responses are judged: what is asked, how verdicts are read, what they add up to."""

    def requests(self, question: Question, responses: tuple[str, ...]) -> list[JudgeRequest]:
        """What the judge is asked about one question."""

    def read(
        self, question: Question, responses: tuple[str, ...], verdicts: Sequence[Verdict]
    ) -> JudgedRecord:
        """The verdicts on one question, in the order of its requests."""

    def summarise(self, records: list[JudgedRecord]) -> Summary:
        """The metrics over all questions."""


@dataclass(frozen=True)
class Calls:
    """The calls of the judge that one question takes, for a plan.

    Attributes:
        count: calls.
        what: what makes them several, e.g. "2 orders".
        questions, responses: how many of each a call shows, on average.
        written: tokens of a verdict where the protocol sets it; None: as the judge's verdicts are.
    """

    count: int
    what: str
    questions: float
    responses: float
    written: int | None = None


def one_per_order(*, both_orders: bool, written: int | None = None) -> Calls:
    """The calls of a benchmark that shows a response beside the baseline's."""
    count = 2 if both_orders else 1
    what = f"{count} order{'s' if both_orders else ''}"
    return Calls(count, what, questions=1.0, responses=2.0, written=written)


class Decoding(Section):
    """How responses are drawn; unset: as the recipe's suite states it, else as suite wrpo does."""

    temperature: float | None = Field(
        None, ge=0.0, description="0 is greedy; unset, a benchmark may have one per category."
    )
    top_p: float | None = Field(None, gt=0.0, le=1.0, description="Nucleus mass; 1 is off.")
    top_k: int | None = Field(None, ge=0, description="Candidates kept per token; 0 is off.")
    repetition_penalty: float | None = Field(None, gt=0.0, description="1 is off.")
    presence_penalty: float | None = Field(None, description="0 is off; only with vllm.")
    frequency_penalty: float | None = Field(None, description="0 is off; only with vllm.")
    max_tokens: int | None = Field(None, ge=1, description="Longest response.")


class BenchmarkSettings(Section):
    """What a recipe says of any judged benchmark; fields of its own decide its verdicts.

    Attributes:
        metric: the number that counts.
        per_question: the metric that is one independent number per question.
        scale: lowest and highest value of that metric.
        baseline: the model whose responses the judge compares with; None: responses are graded
        alone.
        turns: what the user says to the model in one question.
        decoding_stated: how responses are drawn where no suite states it.
        hub_files: the published file behind each field that is a path.
        own_prompt: this toolkit's judge prompt, each part as role to text.
        published_prompt: where the published judge prompt is to be had; empty: nowhere.
    """

    metric: ClassVar[str]
    per_question: ClassVar[str]
    scale: ClassVar[tuple[float, float]] = PERCENT
    baseline: ClassVar[str | None] = None
    turns: ClassVar[int] = 1
    decoding_stated: ClassVar[Mapping[str, Any]] = {"temperature": 0.0, "max_tokens": 4096}
    hub_files: ClassVar[Mapping[str, HubFile]] = {}
    own_prompt: ClassVar[Mapping[str, Mapping[str, str]]]
    published_prompt: ClassVar[str] = ""

    benchmark: str = Field(description="The name under `eval.judged`, which says it already.")
    judge: str = Field(description="A name under `judges`.")
    questions: Path | None = Field(
        None, description="The benchmark's question file; unset: from the hub, at run time."
    )
    prompt: str = Field(
        OWN,
        description="own: this toolkit's judge prompt; or the path of a published prompt file.",
    )
    decoding: Decoding = Field(default_factory=Decoding, description="What differs from the suite.")
    limit: int | None = Field(None, ge=1, description="Only the first questions.")

    def read_questions(self, path: Path) -> list[Question]:
        """The questions of a published file, at least the first `limit` of them.

        Raises:
            DataError, KeyError, TypeError, IndexError: the file lacks what the benchmark needs.
        """
        raise NotImplementedError

    def read_prompt(self, path: Path) -> JudgePromptParts:
        """The parts of a judge prompt in a file: as published, or YAML shaped like `own_prompt`.

        Raises:
            KeyError, TypeError, ValueError, IndexError: the file is something else.
        """
        parts = yaml.safe_load(path.read_text("utf-8"))
        return {part: list(dict(parts[part]).items()) for part in self.own_prompt}

    def protocol(self, templates: Templates) -> JudgingProtocol:
        """The protocol with these judge prompts, and the files it needs besides questions.

        Raises:
            MissingInputError, DataError: such a file is not there, or wrong.
        """
        raise NotImplementedError

    def calls(self) -> Calls:
        """What judging one question takes."""
        raise NotImplementedError

    def temperature(self, category: str) -> float:
        """Of the responses to questions of a category, where neither suite nor recipe states
        one."""
        return 0.0

    def installed_prompt(self) -> Path:
        """The file that `prompt: published` stands for, in an installed package.

        Raises:
            RecipeError, MissingInputError: no package has it, or it is not installed.
        """
        if not self.published_prompt:
            raise RecipeError(
                f"{self.place}.prompt: no prompt is published; use own, or a file's path"
            )
        raise RecipeError(
            f"{self.place}.prompt: the published prompt is not shipped; get "
            f"{self.published_prompt} and name its path here, or use own"
        )

    @property
    def place(self) -> str:
        """Where the recipe says all this."""
        return f"eval.judged.{self.benchmark}"

    def locate(self, field: str) -> Path:
        """The file behind a field: the recipe's path, else the hub's copy.

        Raises:
            MissingInputError: it is not there; says where to get it.
        """
        return fetch(self.hub_files[field], f"{self.place}.{field}", given=getattr(self, field))

    def load_questions(self) -> list[Question]:
        """The questions in the published order, the first `limit` of them.

        Raises:
            MissingInputError: a file is not there.
            DataError: a file lacks what the benchmark needs.
        """
        path = self.locate("questions")
        try:
            return self.read_questions(path)[: self.limit]
        except (KeyError, TypeError, IndexError) as error:
            raise DataError(
                f"{path}: not the question file of {self.benchmark} "
                f"({type(error).__name__}: {error})"
            ) from None

    def load_templates(self) -> Templates:
        """The judge prompts that the recipe asks for.

        Raises:
            MissingInputError: the file, or the package that has it, is not there.
            RecipeError: the file is not a judge prompt of this benchmark.
        """
        if self.prompt == OWN:
            own = {part: list(turns.items()) for part, turns in self.own_prompt.items()}
            return named_templates(self.benchmark, OWN, own)
        path = self.installed_prompt() if self.prompt == PUBLISHED else Path(self.prompt)
        setting = f"{self.place}.prompt"
        if not path.is_file():
            raise MissingInputError(
                f"{setting}: no file {path}; own, published or the path of a file"
            )
        try:
            parts = self.read_prompt(path)
        except (KeyError, TypeError, ValueError, IndexError, yaml.YAMLError) as error:
            raise RecipeError(
                f"{setting}: {path} is not a published judge prompt of {self.benchmark} "
                f"({type(error).__name__}: {error})"
            ) from None
        source = PUBLISHED if self.prompt == PUBLISHED else path.name
        return named_templates(self.benchmark, source, parts)

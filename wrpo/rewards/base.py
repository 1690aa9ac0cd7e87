"""What scoring asks of a reward, and what the settings of every reward share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from pydantic import Field

from wrpo.pipeline.stage import model_identity, template_identity
from wrpo.pipeline.tables import Drop
from wrpo.settings import SPEED_FIELDS, Section
from wrpo.training.settings import CPU_TOKENS

if TYPE_CHECKING:
    from wrpo.pipeline.pipeline import Pipeline
    from wrpo.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Candidate:
    """One response to score."""

    messages: list[dict[str, str]]
    response: str
    reference_answer: str | None
    prompt_id: str = ""


class RewardModel(Protocol):
    """Scores candidates; the result has one entry per candidate, in order.

    A candidate that gets no score is dropped, with the reason in its place.
    """

    def score(self, candidates: list[Candidate]) -> list[float | Drop]: ...


class RewardNetwork(NamedTuple):
    """A model of conversations that a reward loads.

    Attributes:
        bytes_per_weight: of its weights in memory.
        batch_tokens: of one forward pass; None: as many as fit.
        gpus: over which it is spread.
    """

    model: str
    revision: str | None
    chat_template: Path | None
    fold_system: bool
    trust_remote_code: bool
    bytes_per_weight: float
    batch_tokens: int | None
    gpus: int


class JudgeCalls(NamedTuple):
    """What a reward asks a judge.

    Attributes:
        judge: name under `judges`.
        per_response: calls for each response.
        responses_read: that one call shows.
        written: tokens of a reply; None: as the judge's replies usually are.
    """

    judge: str
    per_response: int
    responses_read: int
    written: int | None


class Verifier:
    """A reward that compares each response with the reference answer of its prompt."""

    def score(self, candidates: list[Candidate]) -> list[float | Drop]:
        """One number from 0 to 1 per candidate; one whose reference answer is missing or cannot be
        read is refused."""
        return [self._score(candidate) for candidate in candidates]

    def _score(self, candidate: Candidate) -> float | Drop:
        if candidate.reference_answer is None:
            return Drop(
                "no_reference_answer", "set prompts.datasets.NAME.reference_answer to its column"
            )
        return self.compare(candidate.response, candidate.reference_answer)

    def compare(self, response: str, reference_answer: str) -> float | Drop:
        """The number of one response."""
        raise NotImplementedError


NO_ANSWER = "xqzvw"
"""What verifiers try as a wrong answer: no reference answer is it."""


class SelfCheck(NamedTuple):
    """Responses whose scores a verifier knows beforehand, for one reference answer.

    Attributes:
        right: scores 1; None: the form that the verifier asks for cannot be written here.
        wrong: each scores 0.
        partly_right: each scores less than 1; what it gets of partial credit is not known.
    """

    right: str | None
    wrong: tuple[str, ...]
    partly_right: tuple[str, ...] = ()


class RewardSettings(Section):
    """What the settings of all rewards share.

    A reward is one file in `wrpo/rewards` with a subclass whose field `type` names it. All but
    `load` may stay as it is here.
    """

    type: str
    weight: float = Field(1.0, description="Factor of this reward in the combined score.")
    domains: list[str] | None = Field(
        None,
        min_length=1,
        description="Only prompts of these domains; to others it gives no number. Unset: all.",
    )

    def load(self, pipeline: Pipeline | None = None) -> RewardModel:
        """The reward, ready to score.

        Args:
            pipeline: the run, for rewards that read more of it than the responses.

        Raises:
            ModelError: a model cannot be loaded, or a package is missing.
        """
        raise NotImplementedError(f"{type(self).__name__} has no load()")

    def covers(self, domain: str) -> bool:
        """Whether this reward counts for prompts of a domain."""
        return self.domains is None or domain in self.domains

    def key_settings(self, recipe: Recipe) -> dict[str, Any]:
        """What decides its scores, for the key of the stage: all but speed."""
        settings = self.model_dump(mode="json", exclude=SPEED_FIELDS)
        if self.domains is None:  # off: scores made before it keep their key
            del settings["domains"]
        return settings

    def extra_inputs(self) -> tuple[str, ...]:
        """Stages that it reads whole, beside the prompts and the responses that it scores."""
        return ()

    def check_recipe(self, place: str, recipe: Recipe) -> None:
        """Raises ValueError where the rest of the recipe does not fit; `place` is its own."""

    def networks(self) -> tuple[RewardNetwork, ...]:
        """Models of conversations that it loads."""
        return ()

    def judge_calls(self) -> JudgeCalls | None:
        """What it asks a judge, if it does."""
        return None

    def extras(self) -> frozenset[str]:
        """Extras of `pip install wrpo[...]` that it needs."""
        return frozenset()

    def files(self) -> Mapping[str, Path]:
        """Files of the user's own, by the field that names them."""
        return {}

    def self_check(self, reference_answer: str) -> SelfCheck | None:
        """What scoring tries before it starts, for some prompts; None: this is no verifier.

        A verifier never raises here; what it cannot read, it refuses when it scores.
        """
        return None

    def program_walls(self) -> str | None:
        """The sandbox for responses that are run as programs; None: none is run."""
        return None


class ScoringEngine(Section):
    """How fast scoring runs."""

    batch_tokens: int | None = Field(
        None,
        ge=1,
        description="Tokens per forward pass; unset: what fits into the GPU, as measured in the "
        f"first passes, and {CPU_TOKENS} on a CPU.",
    )


class NetworkSettings(RewardSettings):
    """What rewards by a model of conversations share."""

    model: str = Field(description="Hub id, or folder of a local checkpoint.")
    revision: str | None = Field(None, description="Branch, tag or commit on the hub.")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "bfloat16", description="Precision of the weights; linear heads run in float32."
    )
    chat_template: Path | None = Field(None, description="Jinja file used instead of the model's.")
    fold_system: bool = Field(False, description="Put the system text into the first user turn.")
    max_tokens: int = Field(4096, ge=1, description="Longer conversations are dropped.")
    engine: ScoringEngine = Field(default_factory=ScoringEngine, description="Speed only.")

    def key_settings(self, recipe: Recipe) -> dict[str, Any]:
        """Weights and template by their content."""
        return {
            **super().key_settings(recipe),
            "model": model_identity(self.model, self.revision),
            "chat_template": template_identity(self.chat_template),
        }

    def networks(self) -> tuple[RewardNetwork, ...]:
        """The model, on one GPU."""
        network = RewardNetwork(
            model=self.model,
            revision=self.revision,
            chat_template=self.chat_template,
            fold_system=self.fold_system,
            trust_remote_code=False,
            bytes_per_weight=4.0 if self.dtype == "float32" else 2.0,
            batch_tokens=self.engine.batch_tokens,
            gpus=1,
        )
        return (network,)

"""What an objective is. Each file beside this one is one objective: its settings and its behaviour.

The settings are a section of the recipe: a frozen set of fields, checked when the recipe is loaded,
which answers whatever the pipeline, `plan` and the report want to know. `build()` makes the
objective itself, which the trainer calls: implicit rewards by response name in, loss and metrics of
each prompt out. The formulas are in `wrpo.losses`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol, Self

from pydantic import Field, field_validator, model_validator

from wrpo.errors import DataError
from wrpo.objectives.options import LikelihoodOn
from wrpo.settings import Section
from wrpo.training.settings import PreferenceEngine, Training

if TYPE_CHECKING:
    from torch import Tensor

    from wrpo.objectives.reference import LogProbTable
    from wrpo.pipeline.tables import Row
    from wrpo.recipe import Recipe

    Losses = tuple[Tensor, dict[str, Tensor]]

LogProbPlace = tuple[str, str]
"""A table of log-probs: the model ("sft" or a source) and the rows (triples, pairs, anchors)."""

TrainedTable = Literal[
    "triples", "pairs", "source_pairs", "delta", "rejection", "revisions", "responses"
]


class LogitPlace(NamedTuple):
    """A table of teachers' distributions.

    Attributes:
        model: "sft" or a source.
        response: of the triples, over whose tokens they are.
        at: the model whose stored ids are looked up; None: its own likeliest ones.
    """

    model: str
    response: str
    at: str | None = None

    @property
    def args(self) -> dict[str, str]:
        """The flags of the stage that makes it."""
        given = {"model": self.model, "response": self.response}
        return given if self.at is None else {**given, "at": self.at}

    @property
    def stage(self) -> str:
        """The name of the stage that makes it."""
        return "/".join(["teacher_logits", *self.args.values()])


class SampledInTraining(NamedTuple):
    """Responses that a trainer samples from the policy itself.

    Attributes:
        most_tokens: of a response.
        per_prompt: how many.
        share: of the optimizer steps that train on them; the others take `responses` of rows.
    """

    most_tokens: int
    per_prompt: int = 1
    share: float = 1.0


_ORDER = ("source_chosen", "chosen", "rejected", "anchor")


@dataclass(frozen=True)
class Progress:
    """How far training is: finished optimizer steps, of how many."""

    step: int
    max_steps: int


END = Progress(step=sys.maxsize, max_steps=1)
"""After training, where every schedule has arrived: what evaluation uses."""


class Objective(Protocol):
    """What the trainer asks of an objective."""

    @property
    def responses(self) -> tuple[str, ...]:
        """Names of the responses whose implicit reward is read."""

    @property
    def length_normalised(self) -> bool:
        """Whether implicit rewards are means over tokens instead of sums."""

    def weights(self, progress: Progress) -> dict[str, float]:
        """Scheduled weights at this point of training, by the name under which they are logged."""

    def __call__(self, rewards: Mapping[str, Tensor], progress: Progress) -> Losses:
        """Loss (n,) and metrics (n,) from the implicit reward u (n,) of each response."""


class Likelihood(Section):
    """Optional negative log-likelihood of a preferred answer, added to the preference loss."""

    weight: float = Field(0.0, ge=0.0, description="Factor of the term; 0 is off.")
    on: LikelihoodOn = Field(
        "better", description="Which preferred answer; better: the higher scored of the two."
    )

    @property
    def responses(self) -> tuple[str, ...]:
        """The responses that the term reads."""
        if self.weight == 0:
            return ()
        both = ("source_chosen", "chosen")
        return both if self.on in ("better", "both") else (self.on,)


class ObjectiveSettings(Training):
    """What every objective has; a class with a field `objective: Literal[NAME]` is an objective.

    Attributes:
        label: its name in tables of the report.
        phrase: its name in sentences, of an arm beside the fused model.
        tables: the training tables whose rows it reads.
        config: the class of TRL's options under `train`: WRPOConfig, SFTConfig, or
            TrainingArguments for what all trainers have.
        cut_by: the fields of `truncation` that its rows are cut by; None: all.
        trained_by: the function that trains an arm with it, as "module:name"; it gets the settings
            and a `wrpo.training.arm.Arm`.
        options: the fields that WRPOConfig has flat options for too, by the option's name; the
            trainer gets all fields, those without a flat option included.
        loss_by_row: whether the loss of a row does not depend on the rows beside it.
        cut_in_rows: why not, or why else micro-batches are counted in rows.
        compiles: whether its trainer runs with compiled layers.
    """

    label: ClassVar[str]
    phrase: ClassVar[str]
    tables: ClassVar[tuple[str, ...]] = ("triples",)
    config: ClassVar[str] = "WRPOConfig"
    cut_by: ClassVar[set[str] | None] = None
    trained_by: ClassVar[str] = "wrpo.training.preference:train_preference"
    options: ClassVar[dict[str, str]] = {}
    loss_by_row: ClassVar[bool] = True
    compiles: ClassVar[bool] = True
    cut_in_rows: ClassVar[str] = (
        "the loss of this objective depends on which rows share a forward pass"
    )

    objective: str = ""
    data: TrainedTable = Field("triples", description="Which table to train on.")
    rows_of: list[str] | None = Field(
        None,
        min_length=1,
        description="Only rows whose y_ws (without one: whose preferred response) is of one of "
        "these sources; unset: all rows. Of data responses, reference_answer is one of them.",
    )
    engine: PreferenceEngine = Field(
        default_factory=PreferenceEngine, validate_default=True, description="Speed only."
    )

    @model_validator(mode="after")
    def _reads_the_table(self) -> Self:
        if self.data not in self.tables:
            fitting = " or ".join(f'"{table}"' for table in self.tables)
            raise ValueError(
                f'objective "{self.objective}" reads data {fitting}, not "{self.data}"'
            )
        return self

    @field_validator("engine")
    @classmethod
    def _may_be_cut_anywhere(cls, engine: PreferenceEngine) -> PreferenceEngine:
        if cls.loss_by_row:
            return engine
        rows = engine.of_rows()
        if rows is None:
            raise ValueError(f"{cls.cut_in_rows}; write engine.per_device_batch_size as a number")
        return rows

    @field_validator("engine")
    @classmethod
    def _may_be_compiled(cls, engine: PreferenceEngine) -> PreferenceEngine:
        if engine.compile and not cls.compiles:
            raise ValueError(
                "engine.compile is true, but this objective is trained by TRL, which samples with "
                "the same layers token by token; leave it out"
            )
        return engine

    @property
    def responses(self) -> tuple[str, ...]:
        """The responses of a row that a training step forwards, in batch order."""
        raise NotImplementedError

    @property
    def keeps_reference_model(self) -> bool:
        """Whether a second model is in memory while training."""
        return False

    @property
    def teachers_beside(self) -> tuple[str, ...]:
        """Sources that forward each batch while training."""
        return ()

    @property
    def is_rewarded(self) -> bool:
        """Whether the recipe's rewards score what is sampled while training."""
        return False

    @property
    def sampled(self) -> SampledInTraining | None:
        """What is sampled while training; None: all responses are those of rows."""
        return None

    def logprob_tables(self, sources: Sequence[str]) -> list[LogProbPlace]:
        """The tables of log-probs that training reads, those of the initial policy first."""
        return []

    def logit_tables(self, sources: Sequence[str]) -> list[LogitPlace]:
        """The distributions of teachers that training reads.

        Raises:
            RecipeError: a teacher is no source.
        """
        return []

    def with_reference(
        self, rows: list[Row], tables: Mapping[LogProbPlace, LogProbTable]
    ) -> list[Row]:
        """Rows with the columns of the reference, from the tables of `logprob_tables`."""
        return rows

    def further_inputs(self, recipe: Recipe) -> list[str]:
        """Stages that training reads beside rows, SFT model and tables."""
        return []

    def further_settings(self, recipe: Recipe) -> dict[str, Any]:
        """What decides the result beside its own fields, for the stage's key."""
        return {}

    def rows_to_train(self, rows: list[Row]) -> list[Row]:
        """Those of the sources in `rows_of`.

        Raises:
            DataError: there are none.
        """
        if self.rows_of is None:
            return rows
        from wrpo.pipeline.tables import ROW_RESPONSES

        first = ROW_RESPONSES.get(self.data, ("",))[0]
        column = f"{first}_source" if first else "source"
        own = [row for row in rows if row[column] in self.rows_of]
        if not own:
            said = sorted({str(row[column]) for row in rows})
            raise DataError(
                f"rows_of is {', '.join(self.rows_of)}, and no row of {self.data} is; they are of "
                f"{', '.join(said)}"
            )
        return own

    def build(self) -> Objective:
        """The objective that the trainer calls."""
        raise NotImplementedError

    @property
    def likelihood_term(self) -> Likelihood:
        """The likelihood term beside the objective; weight 0 where there is none."""
        return Likelihood()

    def flat_options(self) -> dict[str, Any]:
        """The fields that `options` names, by the names of WRPOConfig."""
        return {
            option: reduce(getattr, field.split("."), self)
            for option, field in self.options.items()
        }

    @classmethod
    def fields_of(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """The fields that flat options of WRPOConfig stand for, as a recipe nests them."""
        fields: dict[str, Any] = {}
        for option, value in options.items():
            *sections, name = cls.options[option].split(".")
            place = fields
            for section in sections:
                place = place.setdefault(section, {})
            place[name] = value
        return fields

    @property
    def fused_phrase(self) -> str:
        """The fused model in a sentence, where it is trained with this objective."""
        return f"the fused model ({self.label})"

    def summary(self) -> str:
        """What the report says that the fused model is trained with."""
        return f"Objective {self.objective} on {self.data}"


class PreferenceSettings(ObjectiveSettings):
    """What objectives share that compare responses by their implicit rewards."""

    options: ClassVar[dict[str, str]] = {
        "beta": "beta",
        "likelihood_weight": "likelihood.weight",
        "likelihood_on": "likelihood.on",
    }

    beta: float = Field(0.01, gt=0.0, description="Scale of the implicit reward.")
    likelihood: Likelihood = Field(default_factory=Likelihood, description="Optional anchor.")
    reference: str = "precomputed"

    @property
    def responses(self) -> tuple[str, ...]:
        """Those that the objective compares, and those that the likelihood term reads."""
        needed = {*self.build().responses, *self.likelihood.responses}
        if needed > {"chosen", "rejected"}:
            needed.add("source_chosen")
        return tuple(name for name in _ORDER if name in needed)

    @property
    def likelihood_term(self) -> Likelihood:
        return self.likelihood

    @property
    def keeps_reference_model(self) -> bool:
        return self.reference == "model"

    def summary(self) -> str:
        return f"{super().summary()}, beta {self.beta:g}"

    def logprob_tables(self, sources: Sequence[str]) -> list[LogProbPlace]:
        return [] if self.reference in ("model", "none") else [("sft", self.data)]

    def with_reference(
        self, rows: list[Row], tables: Mapping[LogProbPlace, LogProbTable]
    ) -> list[Row]:
        from wrpo.objectives.reference import with_reference
        from wrpo.pipeline.tables import ROW_RESPONSES

        if not tables:
            return rows
        return with_reference(rows, tables["sft", self.data], responses=ROW_RESPONSES[self.data])

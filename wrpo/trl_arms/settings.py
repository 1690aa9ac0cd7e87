"""What the settings share of arms that TRL's own trainers train.

Such an arm starts from the SFT model and sees the prompts of the rows of `triples`, as the others
do. The loss is TRL's; here is only how its trainer is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from wrpo.objectives.base import ObjectiveSettings, SampledInTraining
from wrpo.settings import Share

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Trainer

    from wrpo.pipeline.pipeline import Pipeline
    from wrpo.pipeline.tables import Row
    from wrpo.recipe import Recipe


@dataclass(frozen=True)
class TRLTask:
    """What a trainer is made of.

    Attributes:
        rows: of triples, each with the `reference_answer` and `domain` of its prompt.
        inputs: folders of the stages that the arm reads, by name.
        where: the key of the recipe that errors name.
        arguments: of TRL's config, from the recipe.
        trainer_arguments: model, tokenizer and adapters, as every trainer of TRL takes them.
    """

    pipeline: Pipeline
    rows: list[Row]
    inputs: Mapping[str, Path]
    where: str
    tokenizer: PreTrainedTokenizerBase
    arguments: Mapping[str, Any]
    trainer_arguments: Mapping[str, Any]


class TRLSettings(ObjectiveSettings):
    """An arm of a trainer of TRL's.

    Attributes:
        starts_by_name: its trainer loads the model itself.
    """

    starts_by_name: ClassVar[bool] = False

    config: ClassVar[str] = "TrainingArguments"
    loss_by_row: ClassVar[bool] = False
    compiles: ClassVar[bool] = False
    cut_in_rows: ClassVar[str] = "this objective is trained by TRL, which knows rows only"
    cut_by: ClassVar[set[str] | None] = {"max_length"}
    trained_by: ClassVar[str] = "wrpo.trl_arms.train:train_by_trl"

    @model_validator(mode="after")
    def _states_its_learning_rate(self) -> Self:
        if "learning_rate" not in self.train:
            raise ValueError(
                f"objective {self.objective} needs train.learning_rate: the defaults of TRL's "
                "trainers differ 200-fold, so that none of them compares"
            )
        return self

    @property
    def responses(self) -> tuple[str, ...]:
        return ("source_chosen",)

    def further_inputs(self, recipe: Recipe) -> list[str]:
        return ["prompts"]

    def further_settings(self, recipe: Recipe) -> dict[str, Any]:
        from wrpo.pipeline.data_stages import sampled_model

        return {f"teacher {name}": sampled_model(recipe, name) for name in self.teachers_beside}

    @property
    def is_taught(self) -> bool:
        """Whether a teacher forwards each batch that the policy trains on."""
        return bool(self.teachers_beside)

    def trainer(self, task: TRLTask) -> Trainer:
        """TRL's trainer, ready to train.

        Raises:
            ModelError: a teacher cannot be loaded, or has another tokenizer where it must not.
            RecipeError: TRL refuses a value.
        """
        raise NotImplementedError


class SamplingSettings(TRLSettings):
    """Training on responses that the student samples."""

    temperature: float = Field(1.0, gt=0.0, description="Of sampling.")
    max_new_tokens: int = Field(128, ge=1, description="Of a sampled response.")

    @property
    def sampled(self) -> SampledInTraining | None:
        return SampledInTraining(self.max_new_tokens)


class OneTeacherSettings(SamplingSettings):
    """Distillation from one source, on responses that the student samples."""

    teacher: str = Field(description="A source with the target's tokenizer.")

    @property
    def teachers_beside(self) -> tuple[str, ...]:
        return (self.teacher,)


class MixedSettings(OneTeacherSettings):
    """Batches of sampled responses among batches of a response of the triples."""

    on: Literal["source_chosen", "chosen"] = Field(
        "source_chosen", description="The response of batches that are not sampled."
    )
    on_policy: Share = Field(0.5, description="Share of batches sampled from the student (lmbda).")

    @property
    def responses(self) -> tuple[str, ...]:
        return (self.on,)

    @property
    def sampled(self) -> SampledInTraining | None:
        if not self.on_policy:
            return None
        return SampledInTraining(self.max_new_tokens, share=self.on_policy)

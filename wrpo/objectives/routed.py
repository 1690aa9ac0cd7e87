"""On-policy distillation from several teachers by TRL's AsyncDistillationTrainer: for each prompt
the source whose best response scored highest.

The score table of the run is the router: teacher_id(x) = argmax_s max_j r(x, y_sj), ties to the
first name. So preferences and distillation compare on the same prompts and the same responses of
sources. The student and each teacher are served by vLLM; all have the target's tokenizer
(docs/explicit-fusion.md has the commands).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from wrpo.distillation.settings import known_teacher
from wrpo.settings import Share
from wrpo.training.settings import PreferenceEngine
from wrpo.trl_arms.settings import SamplingSettings, TRLTask

if TYPE_CHECKING:
    from transformers import Trainer

    from wrpo.recipe import Recipe

_ATTENTION_OF_THE_TOOLKIT = ("auto", "varlen", None)


class RoutedEngine(PreferenceEngine):
    """Where the models are served."""

    student_server: str = Field(
        "http://localhost:8000", description="The vLLM server of the SFT model, which is updated."
    )
    teacher_servers: dict[str, str] = Field(
        default_factory=dict, description="The vLLM server of each teacher, by its name."
    )


class RoutedSettings(SamplingSettings):
    """On-policy distillation from the routed source."""

    label: ClassVar[str] = "routed distillation"
    phrase: ClassVar[str] = "routed distillation"
    starts_by_name: ClassVar[bool] = True

    objective: Literal["routed"] = "routed"
    teachers: list[str] = Field(
        min_length=1, description="Sources with the target's tokenizer; the scores choose."
    )
    jsd_beta: Share = Field(
        0.0,
        description="Of the divergence: 0 KL(T || S) over stored tokens; above, over two tokens.",
    )
    teacher_top_k: int = Field(8, ge=1, description="Tokens of a position that a teacher tells.")
    engine: RoutedEngine = Field(default_factory=RoutedEngine, description="Speed only.")

    @model_validator(mode="after")
    def _teachers_are_served(self) -> Self:
        if set(self.teachers) != set(self.engine.teacher_servers):
            served = ", ".join(self.engine.teacher_servers) or "none"
            raise ValueError(
                f"teachers are {', '.join(self.teachers)}, and engine.teacher_servers has "
                f"{served}; give each teacher the address of its vLLM server"
            )
        return self

    @property
    def is_taught(self) -> bool:
        return True

    def further_inputs(self, recipe: Recipe) -> list[str]:
        """The scores of the teachers' responses.

        Raises:
            RecipeError: a teacher is no source.
        """
        names = list(recipe.sources)
        known = [known_teacher(name, names, field="teachers") for name in self.teachers]
        return [*super().further_inputs(recipe), *(f"score/{name}" for name in known)]

    def further_settings(self, recipe: Recipe) -> dict[str, Any]:
        from wrpo.pipeline.data_stages import sampled_model

        return {f"teacher {name}": sampled_model(recipe, name) for name in self.teachers}

    def trainer(self, task: TRLTask) -> Trainer:
        """TRL's trainer.

        Raises:
            ModelError: a teacher has another tokenizer than the target.
            DataError: no teacher responded to a prompt.
        """
        return self.make_trainer(task)

    def make_trainer(self, task: TRLTask, **own_parts: Any) -> Trainer:
        """The same, with parts of one's own: `rollout_worker` and `weight_transfer`."""
        from trl.experimental.async_distillation import (
            AsyncDistillationConfig,
            AsyncDistillationTrainer,
        )

        from wrpo.training.trl_config import make_config, refusals
        from wrpo.trl_arms.data import prompts
        from wrpo.trl_arms.routing import teacher_ids
        from wrpo.trl_arms.teachers import require_same_tokenizer

        for name in self.teachers:
            require_same_tokenizer(task, name)
        arguments = {
            **task.arguments,
            "beta": self.jsd_beta,
            "temperature": self.temperature,
            "max_completion_length": self.max_new_tokens,
            "teacher_top_k": self.teacher_top_k,
            "vllm_server_base_url": self.engine.student_server,
            "teacher_server_urls": dict(self.engine.teacher_servers),
        }
        if self.engine.attention not in _ATTENTION_OF_THE_TOOLKIT:
            arguments["model_init_kwargs"] = {"attn_implementation": self.engine.attention}
        args = make_config(AsyncDistillationConfig, arguments, where=task.where)
        routed: Sequence[str] = teacher_ids(task, self.teachers)
        with refusals(task.where):
            return AsyncDistillationTrainer(
                args=args,
                train_dataset=prompts(task).add_column("teacher_id", list(routed)),
                **task.trainer_arguments,
                **own_parts,
            )

"""Group relative policy optimisation by TRL's GRPOTrainer, with the recipe's rewards.

It reads no response of a source: what it has from them is in the SFT model that it starts from
(arXiv 2402.03300).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from wrpo.objectives.base import SampledInTraining
from wrpo.trl_arms.settings import SamplingSettings, TRLTask

if TYPE_CHECKING:
    from transformers import Trainer

    from wrpo.recipe import Recipe


class GRPOSettings(SamplingSettings):
    """GRPO on the prompts of the triples; `global_batch_size` counts prompts."""

    label: ClassVar[str] = "GRPO"
    phrase: ClassVar[str] = "GRPO"

    objective: Literal["grpo"] = "grpo"
    num_generations: int = Field(8, ge=2, description="Responses to a prompt in one step.")
    kl_weight: float = Field(0.0, ge=0.0, description="Weight of the KL divergence from the start.")
    unscored: float = Field(
        0.0, description="Reward of a response that no reward scores, as an empty one."
    )

    @property
    def sampled(self) -> SampledInTraining | None:
        return SampledInTraining(self.max_new_tokens, per_prompt=self.num_generations)

    @property
    def is_rewarded(self) -> bool:
        return True

    def further_settings(self, recipe: Recipe) -> dict[str, Any]:
        return {"rewards": {n: one.key_settings(recipe) for n, one in recipe.rewards.items()}}

    def trainer(self, task: TRLTask) -> Trainer:
        from trl import GRPOConfig, GRPOTrainer

        from wrpo.training.trl_config import make_config, refusals
        from wrpo.trl_arms.data import prompts
        from wrpo.trl_arms.reward import RecipeReward

        # TRL counts responses per device.
        steps = task.arguments["gradient_accumulation_steps"] * self.num_generations
        arguments = {
            **task.arguments,
            "gradient_accumulation_steps": steps,
            "num_generations": self.num_generations,
            "beta": self.kl_weight,
            "temperature": self.temperature,
            "max_completion_length": self.max_new_tokens,
        }
        args = make_config(GRPOConfig, arguments, where=task.where)
        with refusals(task.where):
            return GRPOTrainer(
                reward_funcs=RecipeReward(task.pipeline, unscored=self.unscored),
                args=args,
                train_dataset=prompts(task),
                **task.trainer_arguments,
            )

"""Generalised knowledge distillation by TRL's GKDTrainer (arXiv 2306.13649).

A share `on_policy` of the batches is sampled from the student, the others are `on`. The teacher
forwards each of them, with the target's tokenizer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from wrpo.settings import Share
from wrpo.trl_arms.settings import MixedSettings, TRLTask

if TYPE_CHECKING:
    from transformers import Trainer


class GKDSettings(MixedSettings):
    """GKD from one source."""

    label: ClassVar[str] = "GKD"
    phrase: ClassVar[str] = "GKD"

    objective: Literal["gkd"] = "gkd"
    jsd_beta: Share = Field(0.5, description="Of the divergence: 0 KL(T || S), 1 KL(S || T).")

    def trainer(self, task: TRLTask) -> Trainer:
        from trl.experimental.gkd import GKDConfig, GKDTrainer

        from wrpo.training.trl_config import make_config, refusals
        from wrpo.trl_arms.data import token_ids
        from wrpo.trl_arms.teachers import load_teacher

        limit = task.pipeline.recipe.truncation.max_length
        arguments = {
            **task.arguments,
            "lmbda": self.on_policy,
            "beta": self.jsd_beta,
            "temperature": self.temperature,
            "max_new_tokens": self.max_new_tokens,
            "max_length": limit,
        }
        args = make_config(GKDConfig, arguments, where=task.where)
        with refusals(task.where):
            return GKDTrainer(
                teacher_model=load_teacher(task, self.teacher, one_tokenizer=True),
                args=args,
                train_dataset=token_ids(task, self.on, max_length=limit),
                **task.trainer_arguments,
            )

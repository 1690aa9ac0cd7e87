"""On-policy distillation by TRL's DistillationTrainer: the student's responses, the teacher's
distributions on them (reverse KL by default)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from wrpo.settings import Share
from wrpo.trl_arms.settings import OneTeacherSettings, TRLTask

if TYPE_CHECKING:
    from transformers import Trainer


class OnPolicySettings(OneTeacherSettings):
    """On-policy distillation from one source."""

    label: ClassVar[str] = "on-policy distillation"
    phrase: ClassVar[str] = "on-policy distillation"

    objective: Literal["on_policy"] = "on_policy"
    jsd_beta: Share = Field(1.0, description="Of the divergence: 0 KL(T || S), 1 KL(S || T).")

    def trainer(self, task: TRLTask) -> Trainer:
        from trl import DistillationConfig, DistillationTrainer

        from wrpo.training.trl_config import make_config, refusals
        from wrpo.trl_arms.data import prompts
        from wrpo.trl_arms.teachers import load_teacher

        arguments = {
            **task.arguments,
            "beta": self.jsd_beta,
            "temperature": self.temperature,
            "max_completion_length": self.max_new_tokens,
        }
        args = make_config(DistillationConfig, arguments, where=task.where)
        with refusals(task.where):
            return DistillationTrainer(
                teacher_model=load_teacher(task, self.teacher, one_tokenizer=True),
                args=args,
                train_dataset=prompts(task),
                **task.trainer_arguments,
            )

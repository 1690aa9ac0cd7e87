"""Distillation across tokenizers by TRL's GOLDTrainer.

Tokens are aligned by byte offsets; those that both have are compared with each other, of the others
the sorted probabilities (universal logit distillation, arXiv 2402.12030). Split tokens are merged
the "bayesian" way and no end of turn is skipped: TRL's defaults read the distribution behind a
token as that of the token, so that the first token of an answer is never taught, and the end is not
either.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from wrpo.settings import Share
from wrpo.trl_arms.settings import MixedSettings, TRLTask

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import Trainer

ALIGNED = {
    "use_uld_loss": True,
    "uld_token_merge_strategy": "bayesian",
    "uld_skip_student_eos": False,
    "uld_skip_teacher_eos": False,
}
"""What teaches every token of an answer, its first and its end included."""


class GOLDSettings(MixedSettings):
    """GOLD from one source with any tokenizer."""

    label: ClassVar[str] = "GOLD"
    phrase: ClassVar[str] = "GOLD"

    objective: Literal["gold"] = "gold"
    teacher: str = Field(description="A source.")
    hybrid: bool = Field(
        True,
        description="Compare tokens that both have with each other, the others sorted; false: all "
        "sorted, which says how sure the teacher is and not of what.",
    )
    jsd_beta: Share = Field(0.5, description="Of the divergence on tokens that both have (hybrid).")
    byte_offsets: bool = Field(
        True,
        description="Align tokens by bytes; false: by their places, as if both split alike.",
    )

    upstream: bool = Field(
        False,
        description="Let the teacher read the student's chat template as plain text, as TRL does.",
    )

    def trainer(self, task: TRLTask) -> Trainer:
        from trl.experimental.gold import GOLDConfig, GOLDTrainer

        from wrpo.recipe.resolved import sampling_model
        from wrpo.training.trl_config import make_config, refusals
        from wrpo.trl_arms.data import conversations, token_ids
        from wrpo.trl_arms.gold_trainer import GOLDOwnTemplateTrainer
        from wrpo.trl_arms.teachers import (
            load_teacher,
            readable_rows,
            require_byte_level,
            teacher_chat,
        )

        limit = task.pipeline.recipe.truncation.max_length
        arguments = {
            **task.arguments,
            **ALIGNED,
            "use_extended_uld": self.byte_offsets,
            "uld_use_hybrid_loss": self.hybrid,
            "lmbda": self.on_policy,
            "beta": self.jsd_beta,
            "temperature": self.temperature,
            "max_completion_length": self.max_new_tokens,
            "max_length": limit,
            "teacher_tokenizer_name_or_path": sampling_model(
                task.pipeline.recipe, self.teacher
            ).model,
        }
        args = make_config(GOLDConfig, arguments, where=task.where)
        if self.upstream:
            if self.byte_offsets:
                require_byte_level(task, self.teacher)
            make: Callable[..., Trainer] = GOLDTrainer
            rows = conversations(task, self.on)
        else:
            chat = teacher_chat(task, self.teacher)
            make = partial(GOLDOwnTemplateTrainer, chat)
            rows = token_ids(readable_rows(task, chat, self.on), self.on, max_length=limit)
        with refusals(task.where):
            return make(
                teacher_model=load_teacher(task, self.teacher, one_tokenizer=False),
                args=args,
                train_dataset=rows,
                **task.trainer_arguments,
            )

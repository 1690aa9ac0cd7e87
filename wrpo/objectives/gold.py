"""Distillation across tokenizers by TRL's GOLDTrainer.

Tokens are aligned by byte offsets and sorted probabilities are compared (universal logit
distillation, arXiv 2402.12030). Split tokens are merged the "bayesian" way and no end of turn is
skipped: TRL's defaults read the distribution behind a token as that of the token, so that the first
token of an answer is never taught, and the end is not either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from wrpo.settings import Share
from wrpo.trl_arms.settings import MixedSettings, TRLTask

if TYPE_CHECKING:
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
    jsd_beta: Share = Field(0.5, description="Of the divergence on tokens that both have.")
    byte_offsets: bool = Field(
        True,
        description="Align by bytes, which byte-level BPE tokenizers allow; false: by text, for "
        "SentencePiece tokenizers.",
    )

    def trainer(self, task: TRLTask) -> Trainer:
        from trl.experimental.gold import GOLDConfig, GOLDTrainer

        from wrpo.recipe.resolved import sampling_model
        from wrpo.training.trl_config import make_config, refusals
        from wrpo.trl_arms.data import conversations
        from wrpo.trl_arms.teachers import load_teacher, require_byte_level

        arguments = {
            **task.arguments,
            **ALIGNED,
            "use_extended_uld": self.byte_offsets,
            "lmbda": self.on_policy,
            "beta": self.jsd_beta,
            "temperature": self.temperature,
            "max_completion_length": self.max_new_tokens,
            "max_length": task.pipeline.recipe.truncation.max_length,
            "teacher_tokenizer_name_or_path": sampling_model(
                task.pipeline.recipe, self.teacher
            ).model,
        }
        args = make_config(GOLDConfig, arguments, where=task.where)
        if self.byte_offsets:
            require_byte_level(task, self.teacher)
        with refusals(task.where):
            return GOLDTrainer(
                teacher_model=load_teacher(task, self.teacher, one_tokenizer=False),
                args=args,
                train_dataset=conversations(task, self.on),
                **task.trainer_arguments,
            )

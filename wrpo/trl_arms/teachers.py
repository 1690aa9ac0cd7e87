"""Teachers that stay in memory while an arm trains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wrpo.errors import ModelError
from wrpo.recipe.resolved import sampling_model

if TYPE_CHECKING:
    from wrpo.trl_arms.settings import TRLTask


def load_teacher(task: TRLTask, name: str, *, one_tokenizer: bool) -> Any:
    """The model of a source, frozen.

    Args:
        one_tokenizer: it must have the target's tokens.

    Raises:
        ModelError: it has other tokens, or cannot be loaded.
        RecipeError: no such source.
    """
    from wrpo.training.common import load_policy

    if one_tokenizer:
        require_same_tokenizer(task, name)
    entry = sampling_model(task.pipeline.recipe, name)
    return load_policy(entry.model, entry).eval().requires_grad_(False)


def require_same_tokenizer(task: TRLTask, name: str) -> None:
    """Checks that a source has the target's tokens; TRL compares their number only, or nothing.

    Raises:
        ModelError: it has others.
        RecipeError: no such source.
    """
    from wrpo.chat.tokenizer import load_chat_tokenizer
    from wrpo.distillation.token_bytes import fingerprint

    entry = sampling_model(task.pipeline.recipe, name)
    other = load_chat_tokenizer(entry.model, entry)
    if fingerprint(other) != fingerprint(task.tokenizer):
        raise ModelError(
            f"{task.where}: teacher {name} has another tokenizer than the target, so that their "
            "distributions are over different tokens; objective gold aligns different ones"
        )


def require_byte_level(task: TRLTask, name: str) -> None:
    """Checks that a source's tokenizer and the target's are byte-level BPE; TRL says so in a step.

    Raises:
        ModelError: one is not.
        RecipeError: no such source.
    """
    from trl.experimental.utils import is_byte_level_tokenizer

    from wrpo.chat.tokenizer import load_chat_tokenizer

    entry = sampling_model(task.pipeline.recipe, name)
    tokenizers = {
        f"teacher {name}": load_chat_tokenizer(entry.model, entry),
        "the target": task.tokenizer,
    }
    for whose, tokenizer in tokenizers.items():
        if not is_byte_level_tokenizer(tokenizer.backend_tokenizer):
            raise ModelError(
                f"{task.where}: byte_offsets needs byte-level BPE tokenizers, and that of {whose} "
                "is none; set byte_offsets: false in the arm"
            )

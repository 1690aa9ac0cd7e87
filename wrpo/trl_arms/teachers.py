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
        one_tokenizer: it must have the target's tokens; TRL compares their number only.

    Raises:
        ModelError: it has other tokens, or cannot be loaded.
        RecipeError: no such source.
    """
    from wrpo.distillation.token_bytes import fingerprint
    from wrpo.training.common import load_policy, load_target_tokenizer

    entry = sampling_model(task.pipeline.recipe, name)
    other = load_target_tokenizer(entry.model, entry)
    if one_tokenizer and fingerprint(other) != fingerprint(task.tokenizer):
        raise ModelError(
            f"{task.where}: teacher {name} has another tokenizer than the target, so that their "
            "distributions are over different tokens; objective gold aligns different ones"
        )
    return load_policy(entry.model, entry).eval().requires_grad_(False)

"""Teachers that stay in memory while an arm trains."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from wrpo.errors import DataError, ModelError, TemplateError
from wrpo.recipe.resolved import sampling_model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from wrpo.trl_arms.settings import TRLTask

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TeacherChat:
    """How a teacher renders chats.

    Attributes:
        name: of the source.
        tokenizer: with its chat template.
        fold_system: whether system text goes into the first user turn.
    """

    name: str
    tokenizer: PreTrainedTokenizerBase
    fold_system: bool = False


def teacher_chat(task: TRLTask, name: str) -> TeacherChat:
    """As the source's entry of the recipe says.

    Raises:
        ModelError: its tokenizer cannot be loaded.
        RecipeError: no such source.
    """
    from wrpo.chat.tokenizer import load_chat_tokenizer

    entry = sampling_model(task.pipeline.recipe, name)
    return TeacherChat(name, load_chat_tokenizer(entry.model, entry), entry.fold_system)


def readable_rows(task: TRLTask, chat: TeacherChat, response: str) -> TRLTask:
    """The task without the rows that a teacher's template cannot render, which are said.

    Raises:
        DataError: none is left.
    """
    from wrpo.chat.render import render_response

    kept, reason = [], ""
    for row in task.rows:
        said = row[response][0]["content"]
        try:
            render_response(chat.tokenizer, row["prompt"], said, fold_system=chat.fold_system)
        except TemplateError as error:
            reason = str(error)
        else:
            kept.append(row)
    if not kept:
        raise DataError(
            f"{task.where}: the chat template of teacher {chat.name} renders none of "
            f"{len(task.rows)} rows: {reason}"
        )
    if len(kept) < len(task.rows):
        logger.warning(
            "%s: %d of %d rows are left out: the template of teacher %s cannot render them: %s",
            *(task.where, len(task.rows) - len(kept), len(task.rows), chat.name, reason),
        )
    return replace(task, rows=kept)


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

"""Rows of triples in the forms that TRL's trainers read."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from wrpo.chat.render import fold_system_message, render_prompt, render_response

if TYPE_CHECKING:
    from datasets import Dataset

    from wrpo.trl_arms.settings import TRLTask

logger = logging.getLogger(__name__)


def _messages(task: TRLTask, row: dict[str, Any]) -> list[dict[str, str]]:
    fold = task.pipeline.recipe.target.fold_system
    messages: list[dict[str, str]] = [dict(turn) for turn in row["prompt"]]
    return [dict(turn) for turn in fold_system_message(messages)] if fold else messages


def prompts(task: TRLTask) -> Dataset:
    """Conversations without a response, and what rewards read; `input_ids` are for checks only."""
    from datasets import Dataset

    fold = task.pipeline.recipe.target.fold_system
    return Dataset.from_list(
        [
            {
                "prompt": _messages(task, row),
                "input_ids": render_prompt(task.tokenizer, row["prompt"], fold_system=fold),
                "prompt_id": row["prompt_id"],
                "domain": row["domain"],
                "reference_answer": row["reference_answer"],
            }
            for row in task.rows
        ]
    )


def token_ids(task: TRLTask, response: str, *, max_length: int) -> Dataset:
    """`input_ids` and `completion_mask` of one response, as our own stages render it; in
    `conversation` the messages before it, for a teacher that renders them itself."""
    from datasets import Dataset

    made = []
    for row in task.rows:
        prompt, said = render_response(
            task.tokenizer,
            row["prompt"],
            row[response][0]["content"],
            fold_system=task.pipeline.recipe.target.fold_system,
            finished=response not in (row["unfinished"] or ()),
        )
        ids = (prompt + said)[:max_length]
        if len(prompt) < len(ids):
            mask = [0] * len(prompt) + [1] * (len(ids) - len(prompt))
            row_of = {"prompt": "", "input_ids": ids, "completion_mask": mask}
            made.append({**row_of, "conversation": row["prompt"]})
    return Dataset.from_list(made)


def conversations(task: TRLTask, response: str) -> Dataset:
    """Messages with one response; TRL tokenises them for student and teacher, and ends each."""
    from datasets import Dataset

    cut = sum(response in (row["unfinished"] or ()) for row in task.rows)
    if cut:
        logger.warning(
            "%s: %d of %d responses are cut at max_tokens, and TRL's template ends them all the "
            "same; build.unfinished: rejected leaves them out",
            *(task.where, cut, len(task.rows)),
        )
    return Dataset.from_list(
        [{"messages": [*_messages(task, row), dict(row[response][0])]} for row in task.rows]
    )

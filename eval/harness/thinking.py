"""What benchmarks read of a model that thinks: its answers.

Stop texts of a task are meant for answers (a blank line, "Question:"), and thoughts are full of
them. So generation runs on to the end of the turn, and the answer is cut at them afterwards.
"""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING, Any

from wrpo.chat.thoughts import ThinkingStyle, split_thoughts
from wrpo.chat.tokens import added_tokens
from wrpo.recipe.thinking import Thinking

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)


def thinking_style(tokenizer: PreTrainedTokenizerBase, thinking: Thinking) -> ThinkingStyle | None:
    """How a model writes its thoughts; None: it writes none.

    Raises:
        TemplateError: the tokenizer has no chat template.
    """
    style = thinking.style(tokenizer)
    added = added_tokens(tokenizer)
    if style and any(added.ids.get(tag) in added.special_ids for tag in style.tags):
        logger.warning(
            "the tags of thoughts, %s and %s, are control tokens, which lm-eval leaves out of "
            "texts: thoughts are read as part of the answers",
            *style.tags,
        )
        return None
    return style


class AnswersOnly:
    """A model class of lm-eval whose `style`, where it is set, takes thoughts from responses."""

    style: ThinkingStyle | None = None

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The answer to each request; empty where the thought does not end."""
        generate = super().generate_until  # type: ignore[misc]
        if self.style is None:
            return list(generate(requests, disable_tqdm=disable_tqdm))
        texts = generate([_unstopped(request) for request in requests], disable_tqdm=disable_tqdm)
        split = [split_thoughts(self.style.opened + text, self.style.tags) for text in texts]
        unclosed = sum(not one.closed for one in split)
        if unclosed:
            logger.warning(
                "%d of %d responses end within their thought and count as empty; raise the task's "
                "max_gen_toks",
                *(unclosed, len(split)),
            )
        return [
            cut_at_stops(one.answer, request.args[1].get("until"))
            for one, request in zip(split, requests, strict=True)
        ]


def _unstopped(request: Instance) -> Instance:
    context, kwargs = request.args
    without = copy.copy(request)
    without.arguments = (context, {**kwargs, "until": []})
    return without


def cut_at_stops(answer: str, until: Any) -> str:
    """The answer up to the first of the texts that end it."""
    for stop in [until] if isinstance(until, str) else until or ():
        if stop:
            answer = answer.split(stop)[0]
    return answer

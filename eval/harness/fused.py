"""Several models that answer as one, as a model of lm-eval: the fusions of a recipe."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from lm_eval.api.model import LM

from eval.harness.chat import ChatPrompts
from eval.harness.thinking import cut_at_stops
from wrpo.engines.base import Completion, GenerationTask, Request
from wrpo.engines.fused import FusedEngine, FusedSettings
from wrpo.errors import RecipeError
from wrpo.ids import digest
from wrpo.recipe.fusions import FusedModels
from wrpo.recipe.sampling import Model, Sampling

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

logger = logging.getLogger(__name__)

_DEFAULT_MAX_TOKENS = 256
"""lm-eval's, where a task names no limit."""


class RememberedChats(ChatPrompts):
    """The prompts of the first member, which know the conversation that each text came from."""

    def render(self, chat: list[dict[str, str]], *, generation_prompt: bool) -> str:
        """The prompt as text.

        Raises:
            RecipeError: the task begins the response itself.
        """
        if not generation_prompt:
            raise RecipeError(
                "a task begins the response (gen_prefix), which fused models do not go on from; "
                "leave the task out, or set eval.sources to false"
            )
        text = super().render(chat, generation_prompt=generation_prompt)
        self._chats[text] = [dict(turn) for turn in chat]
        return text

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._chats: dict[str, list[dict[str, str]]] = {}

    def chat(self, text: str) -> list[dict[str, str]]:
        """The conversation of a rendered text; a text of its own is one user turn."""
        return self._chats.get(text, [{"role": "user", "content": text}])


class FusedLM(LM):
    """The members of a fusion in this process, by transformers, whatever `eval.backend` is.

    Args:
        batch_size: prompts that are computed together.
        max_length: most tokens of prompt and response; None: what every member takes.

    Raises:
        RecipeError: a member writes thoughts.
        ModelError: a member cannot be loaded.
    """

    def __init__(
        self, name: str, fused: FusedModels, *, dtype: str, batch_size: int, max_length: int | None
    ) -> None:
        super().__init__()
        self.max_length = max_length or _shortest_context(fused)
        members = {
            member: entry.model_copy(update={"dtype": dtype})
            for member, entry in fused.members.items()
        }
        self.model = None  # there is not one
        self._engine = FusedEngine(
            GenerationTask(
                model=name,
                entry=Model(model=name),
                sampling=Sampling(temperature=0.0, max_tokens=_DEFAULT_MAX_TOKENS).model_dump(),
                stop_token_ids=[],
                max_model_len=self.max_length,
            ),
            FusedModels(fused.fusion, members),
            FusedSettings(backend="fused", max_num_seqs=batch_size),
        )
        first = next(iter(self._engine.members.values()))
        self.prompts = RememberedChats(first.tokenizer, fold_system=first.entry.fold_system)
        self._name = name

    @property
    def tokenizer_name(self) -> str:
        """What tells its prompts from those of other models."""
        return self._name

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The prompt as the first member's text."""
        return self.prompts.render(chat_history, generation_prompt=add_generation_prompt)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The fused response to each request; empty where the prompt is too long for a member."""
        asked = [
            Request(
                row=(0, place, 0),
                prompt_ids=[],
                messages=self.prompts.chat(str(request.args[0])),
                seed=int(digest([str(request.args[0])], length=8), 16) % 2**31,
                sampling=_sampling(request.args[1]),
            )
            for place, request in enumerate(requests)
        ]
        texts = [""] * len(requests)
        unanswered = 0
        for found in self._engine.generate(asked):
            if isinstance(found, Completion):
                place = found.row[1]
                texts[place] = cut_at_stops(found.text, requests[place].args[1].get("until"))
            else:
                unanswered += 1
        if unanswered:
            logger.warning("%d prompts get no fused response: a member refuses them", unanswered)
        return texts

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Not defined: fused models choose texts.

        Raises:
            RecipeError: always.
        """
        raise RecipeError(
            "a task compares log-likelihoods of given answers, which fused models do not have; "
            "take the form of the task that generates (output_type: generate_until)"
        )

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """As `loglikelihood`."""
        self.loglikelihood(requests)
        return []


def _shortest_context(fused: FusedModels) -> int:
    from transformers import AutoConfig

    lengths = []
    for entry in fused.members.values():
        config = AutoConfig.from_pretrained(
            entry.model, revision=entry.revision, trust_remote_code=entry.trust_remote_code
        )
        lengths.append(int(config.get_text_config().max_position_embeddings))
    return min(lengths)


def _sampling(kwargs: dict[str, Any]) -> dict[str, Any]:
    """The sampling fields of lm-eval's generation arguments; greedy unless it asks to sample."""
    greedy = not kwargs.get("do_sample", False) or kwargs.get("temperature", 1.0) == 0
    names = ("top_p", "top_k", "repetition_penalty")
    given = {name: kwargs[name] for name in names if name in kwargs}
    return Sampling(
        temperature=0.0 if greedy else kwargs.get("temperature", 1.0),
        max_tokens=kwargs.get("max_gen_toks", _DEFAULT_MAX_TOKENS),
        **({"top_p": 1.0} | given),
    ).model_dump()

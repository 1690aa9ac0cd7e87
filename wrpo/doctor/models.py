"""The hub's token, and the chat template of every model of the recipe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from wrpo.doctor.checks import CheckContext, Finding
from wrpo.errors import ModelError, TemplateError
from wrpo.files import is_folder
from wrpo.recipe import TARGET, Recipe
from wrpo.recipe.resolved import longest_sampled, resolved_engine, sampling_model

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from wrpo.recipe.sampling import Model
    from wrpo.recipe.thinking import Thinking

_SYSTEM = {"role": "system", "content": "Response in one word."}
_USER = {"role": "user", "content": "What is wet?"}
_ANSWER = "Water."


class _Chatting(NamedTuple):
    """A model whose template is used, and the recipe's section that names it."""

    place: str
    model: str
    revision: str | None
    template: Path | None
    fold_system: bool
    trust_remote_code: bool
    thinking: Thinking | None = None


def hub_token(context: CheckContext) -> Iterator[Finding]:
    """Whether there is a token, and online whether it opens the gated models; never the token."""
    from huggingface_hub import get_token

    token = get_token()
    yield Finding("ok", "hub token", "set" if token else "not set; public models need none")
    if not context.hub:
        how = "not asked" if context.offline else "does not answer"
        yield Finding("ok" if context.offline else "warning", "hub", f"{how}; cached files only")
        return
    for model in dict.fromkeys(entry.model for entry in _models(context.recipe)):
        if not is_folder(Path(model)):
            yield from _access(model, bool(token))


def _access(model: str, has_token: bool) -> Iterator[Finding]:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled

    try:
        HfApi().auth_check(model)
    except GatedRepoError:
        if has_token:
            remedy = f"ask for access at https://huggingface.co/{model}"
        else:
            remedy = "hf auth login, or set HF_TOKEN"
        yield Finding("problem", model, "is gated and this token does not open it", remedy)
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        yield Finding("warning", model, f"the hub does not answer for it: {reason}")


def templates(context: CheckContext) -> Iterator[Finding]:
    """Renders a prompt with and without a system turn, and a response, for every model."""
    for entry in _models(context.recipe):
        subject = f"template of {entry.place}"
        try:
            tokenizer = _tokenizer(entry)
        except ModelError as error:
            if is_folder(Path(entry.model)):
                yield Finding("problem", subject, str(error).splitlines()[0])
            else:
                yield Finding("warning", subject, f"not checked: {entry.model} is not at hand")
            continue
        yield from _template(
            subject, tokenizer, fold_system=entry.fold_system, thinking=entry.thinking
        )
        yield from _vocabulary(entry, tokenizer)


def context_lengths(context: CheckContext) -> Iterator[Finding]:
    """Whether each model that is sampled here takes the longest prompt and response."""
    recipe = context.recipe
    for name in (*recipe.sources, TARGET):
        if resolved_engine(recipe, name).sends_messages:
            continue
        config = _config(sampling_model(recipe, name))
        text = config.get_text_config() if config is not None else None
        longest = getattr(text, "max_position_embeddings", None)
        wanted = sum(longest_sampled(recipe, name))
        if longest is not None and longest < wanted:
            yield Finding(
                "problem",
                f"length of {name if name == TARGET else f'sources.{name}'}",
                f"it takes {longest} tokens; sample.max_prompt_tokens + max_tokens is {wanted}",
                "lower one of them, for a source alone under its own `sampling`",
            )


def _config(entry: Model | _Chatting) -> PretrainedConfig | None:
    """Of a model that is at hand."""
    from transformers import AutoConfig

    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(
            entry.model, revision=entry.revision, trust_remote_code=entry.trust_remote_code
        )
    except (OSError, ValueError):  # a tokenizer alone
        return None
    return config


def _vocabulary(entry: _Chatting, tokenizer: PreTrainedTokenizerBase) -> Iterator[Finding]:
    """Whether every token has an embedding."""
    from wrpo.training.vocabulary import REMEDY, overflow

    config = _config(entry)
    if config is None:
        return
    if problem := overflow(tokenizer, config):
        message = f"{problem}; training stops where rows use the others"
        yield Finding("warning", f"vocabulary of {entry.place}", message, REMEDY)


def _template(
    subject: str,
    tokenizer: PreTrainedTokenizerBase,
    *,
    fold_system: bool,
    thinking: Thinking | None = None,
) -> Iterator[Finding]:
    from wrpo.chat.render import end_of_turn_ids, render_prompt, render_response
    from wrpo.chat.tokens import adds_bos

    try:
        prompt, response = render_response(tokenizer, [_USER], _ANSWER, fold_system=fold_system)
        ends = end_of_turn_ids(tokenizer)
    except (TemplateError, ModelError) as error:
        yield Finding("problem", subject, str(error), "set chat_template to one that can")
        return
    bos, wanted = prompt.count(tokenizer.bos_token_id), int(adds_bos(tokenizer))
    closing = sum(response.count(end) for end in ends)
    counts = f"BOS {bos}, end of turn {closing}"
    begins = prompt[0] == tokenizer.bos_token_id
    if begins and _begins_turns(tokenizer, bos):
        bos, counts = 1, f"BOS {tokenizer.bos_token} begins every turn, end of turn {closing}"
    if bos > 1 or bos < wanted or closing != 1 or response[-1] not in ends:
        yield Finding("problem", subject, f"{counts}; one each is right", "set chat_template")
        return
    try:
        render_prompt(tokenizer, [_SYSTEM, _USER], fold_system=fold_system)
    except TemplateError:
        message = f"{counts}; it takes no system turn, and prompts with one will be dropped"
        yield Finding("warning", subject, message, "set fold_system: true for this model")
        return
    how = "system turn folded into the user's" if fold_system else "takes a system turn"
    yield Finding("ok", subject, f"{counts}; {how}{_thoughts(tokenizer, thinking)}")


def _thoughts(tokenizer: PreTrainedTokenizerBase, thinking: Thinking | None) -> str:
    style = None if thinking is None else thinking.style(tokenizer)
    if style is None:
        return ""
    opens = "the prompt opens the thought" if style.opened else "the model opens the thought"
    return f"; thinks ({' ... '.join(style.tags)}; {opens})"


def _begins_turns(tokenizer: PreTrainedTokenizerBase, found: int) -> bool:
    """Whether the template writes BOS before each turn (SmolLM2), by two more turns.

    Args:
        found: times in the prompt of one turn.
    """
    from wrpo.chat.render import render_prompt

    more = [_USER, {"role": "assistant", "content": _ANSWER}, _USER]
    longer = render_prompt(tokenizer, more).count(tokenizer.bos_token_id)
    return found > 1 and longer == found + 2


def _tokenizer(entry: _Chatting) -> PreTrainedTokenizerBase:
    from wrpo.chat.tokenizer import load_tokenizer

    return load_tokenizer(
        entry.model,
        revision=entry.revision,
        chat_template=str(entry.template) if entry.template else None,
        template_kwargs=entry.thinking.chat_template_kwargs if entry.thinking else None,
        trust_remote_code=entry.trust_remote_code,
    )


def _models(recipe: Recipe) -> list[_Chatting]:
    """Every model whose chats are rendered here."""
    found = [
        _Chatting(
            place,
            entry.model,
            entry.revision,
            entry.chat_template,
            entry.fold_system,
            entry.trust_remote_code,
            entry.thinking,
        )
        for place, entry in [
            *(
                (f"sources.{name}", entry)
                for name, entry in recipe.sources.items()
                if not resolved_engine(recipe, name).sends_messages
            ),
            ("target", recipe.target),
        ]
    ]
    for name, reward in recipe.rewards.items():
        for network in reward.networks():
            found.append(
                _Chatting(
                    f"rewards.{name}",
                    network.model,
                    network.revision,
                    network.chat_template,
                    network.fold_system,
                    network.trust_remote_code,
                )
            )
    return found

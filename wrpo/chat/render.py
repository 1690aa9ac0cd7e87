"""Chats become token ids here, and nowhere else, so that every stage sees the same ids.

The rules, for any chat template:

* A response is never rendered alone. The conversation is rendered up to the generation prompt and
  again with the response; the response is what the second rendering adds to the first.
* One BOS at the start if the template writes one or the tokenizer adds one by default, else none.
* The response ends in exactly one end-of-turn token: the first token that the template writes after
  the response (``<|eot_id|>``, ``<|im_end|>``, ``</s>``, ...), or EOS if it writes none.
* Text is never a control token. A message that spells ``<|im_end|>`` is encoded as those letters.
  Added tokens that are not special (``<think>``) are ordinary text and keep their own ids.
* Templates that write today's date get a fixed one, so that ids do not depend on the day.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from wrpo.chat.template import Chat, Messages, excerpt, render
from wrpo.chat.tokens import END_OF_ANSWER, added_tokens, encode, encode_chat, guard
from wrpo.errors import TemplateError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# A block that a generation prompt opens for the model to fill and close (``<think>``).
_OPEN_BLOCK = re.compile(r"<(\w+)>\s*\Z")


def render_prompt(
    tokenizer: PreTrainedTokenizerBase, messages: Messages, *, fold_system: bool = False
) -> list[int]:
    """Token ids of a conversation up to and with the generation prompt.

    Args:
        messages: Turns with ``role`` and ``content``; the last one is the user's.
        fold_system: Put the system text at the top of the first user turn.

    Raises:
        TemplateError: No template, or the template cannot render these messages.
    """
    chat = _guarded(tokenizer, messages, fold_system=fold_system)
    return encode_chat(tokenizer, _prompt_text(tokenizer, chat))


def render_response(
    tokenizer: PreTrainedTokenizerBase,
    messages: Messages,
    response: str,
    *,
    fold_system: bool = False,
    finished: bool = True,
) -> tuple[list[int], list[int]]:
    """Token ids of a conversation and of the response that follows it.

    The response is what the template adds to the prompt: it has what the template puts before a
    response (an empty think block, a space) and lacks what the template trims. Where the template
    rewrites the response, or takes back a part of the generation prompt once there is a response,
    it is the response's own text and the template's end of turn: what the model has to generate.
    Where the generation prompt opens a think block, the response goes on in it; one without a
    thought closes it first, unless the template does that.

    Args:
        messages: Turns with ``role`` and ``content``; the last one is the user's.
        response: What the assistant says.
        fold_system: Put the system text at the top of the first user turn.
        finished: Without it, the response was cut and gets no end of turn.

    Returns:
        ``(prompt_ids, response_ids)``: the first equals ``render_prompt`` of the same messages, the
        second ends in the only end-of-turn token it has.

    Raises:
        TemplateError: No template, or the template cannot render this conversation.
    """
    prompt_ids, (response_ids,) = render_responses(
        tokenizer,
        messages,
        [response],
        fold_system=fold_system,
        unfinished=() if finished else (0,),
    )
    return prompt_ids, response_ids


def render_responses(
    tokenizer: PreTrainedTokenizerBase,
    messages: Messages,
    responses: Sequence[str],
    *,
    fold_system: bool = False,
    unfinished: Collection[int] = (),
) -> tuple[list[int], list[list[int]]]:
    """The ids of ``render_response`` for several responses to the same conversation, in their
    order.

    Args:
        unfinished: Places of the responses that get no end of turn.

    Raises:
        TemplateError: As ``render_response``.
    """
    chat = _guarded(tokenizer, messages, fold_system=fold_system)
    prompt_text = _prompt_text(tokenizer, chat)
    prompt_ids = encode_chat(tokenizer, prompt_text)
    response_ids = [
        _response_ids(
            tokenizer,
            chat,
            response,
            prompt_text=prompt_text,
            prompt_ids=prompt_ids,
            finished=place not in unfinished,
        )
        for place, response in enumerate(responses)
    ]
    return prompt_ids, response_ids


def _response_ids(
    tokenizer: PreTrainedTokenizerBase,
    chat: Chat,
    response: str,
    *,
    prompt_text: str,
    prompt_ids: list[int],
    finished: bool,
) -> list[int]:
    guarded = guard(tokenizer, response, "The response")
    body, end_text, end = _completion(tokenizer, chat, guarded, prompt_text)
    completion = body + end_text if finished else body
    full_ids = encode_chat(tokenizer, prompt_text + completion)
    if full_ids[: len(prompt_ids)] == prompt_ids:
        response_ids = full_ids[len(prompt_ids) :]
    else:  # the last letters of the prompt and the first of the response share a token
        response_ids = encode(tokenizer, completion, continues=True)
    ends = [place for place, token in enumerate(response_ids) if token == end]
    if ends != ([len(response_ids) - 1] if finished else []):
        raise TemplateError(
            f"{tokenizer.convert_ids_to_tokens(end)!r} ends a turn but this tokenizer does not "
            "mark it as special, so a response that spells it cannot be kept. Drop the row. "
            f"Response: {excerpt(response)}"
        )
    return response_ids


def end_of_turn_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids that end an assistant turn, read off a rendered conversation.

    Raises:
        TemplateError: No template, or nothing ends a turn (no token, no EOS).
    """
    _, tail = _rendered_response(tokenizer, [{"role": "user", "content": "question"}], "answer")
    _, end = _up_to_end_of_turn(tokenizer, tail)
    return [end]


def stop_token_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids at which an engine stops generating: the end of a turn, and EOS.

    Raises:
        TemplateError: As ``end_of_turn_ids``.
    """
    ids = end_of_turn_ids(tokenizer)
    eos = tokenizer.eos_token_id
    return ids if eos is None or eos in ids else [*ids, eos]


def fold_system_message(messages: Messages) -> Chat:
    """Move the leading system text to the top of the first user turn, a blank line between them.

    Raises:
        TemplateError: A system message is not followed by a user turn.
    """
    chat = [dict(message) for message in messages]
    system = []
    while chat and chat[0].get("role") == "system":
        system.append(chat.pop(0)["content"])
    if not system:
        return chat
    if not chat or chat[0].get("role") != "user":
        raise TemplateError("fold_system: no user turn follows the system message. Drop the row.")
    chat[0]["content"] = "\n\n".join([*filter(str.strip, system), chat[0]["content"]])
    return chat


def _guarded(tokenizer: PreTrainedTokenizerBase, messages: Messages, *, fold_system: bool) -> Chat:
    """Checked copies of the messages in which no content can turn into a control token."""
    if not messages:
        raise TemplateError("The conversation is empty. It needs at least one user turn.")
    for message in messages:
        if not all(isinstance(message.get(key), str) for key in ("role", "content")):
            raise TemplateError(
                f"A message needs 'role' and 'content', both text, and is {excerpt(message)}. "
                "Correct or drop the row."
            )
    if messages[-1]["role"] != "user":
        raise TemplateError(
            f"The last turn is {messages[-1]['role']!r}; a response can only follow a 'user' turn. "
            "Cut the conversation after its last user turn."
        )
    chat = fold_system_message(messages) if fold_system else messages
    return [
        {"role": m["role"], "content": guard(tokenizer, m["content"], f"A {m['role']} turn")}
        for m in chat
    ]


def _prompt_text(tokenizer: PreTrainedTokenizerBase, chat: Chat) -> str:
    said = [m["content"] for m in chat if m["role"] == "system" and m["content"].strip()]
    if said:
        marked = [
            {**m, "content": _marked(m["content"])} if m["role"] == "system" else m for m in chat
        ]
        # Without the mark, other turns that have the same words would hide what is left out.
        with_marks = render(tokenizer, marked, generation_prompt=True)
        if not all(_marked(content).strip() in with_marks for content in said):
            raise TemplateError(
                "The chat template leaves out the system message. Set fold_system: true to put it "
                f"into the first user turn. System message: {excerpt(said[0])}"
            )
    return render(tokenizer, chat, generation_prompt=True)


def _marked(text: str) -> str:
    """The text with a mark after its last letter."""
    letters = text.rstrip() or text
    return letters + END_OF_ANSWER + text[len(letters) :]


def _completion(
    tokenizer: PreTrainedTokenizerBase, chat: Chat, response: str, prompt: str
) -> tuple[str, str, int]:
    """What follows the prompt: the response, its end of turn, and the id of that."""
    # Some templates render earlier turns differently once a response follows (Mistral v0.3 leaves
    # out the system text); the last exchange alone still shows how they write a response.
    for context in [chat] if len(chat) == 1 else [chat, chat[-1:]]:
        if context is not chat:
            prompt = render(tokenizer, context, generation_prompt=True)
        head, tail = _rendered_response(tokenizer, context, response)
        body = head[len(prompt) :]
        end_text, end = _up_to_end_of_turn(tokenizer, tail)
        opened = _OPEN_BLOCK.search(prompt)
        if opened and _has_thought(response, opened[1]):
            return _inside(response, opened).rstrip(), end_text, end
        if head.startswith(prompt) and body.endswith(response.strip()):
            _refuse_missing_header(tokenizer, context, prompt, body)
            return body, end_text, end
    if opened:  # an empty thought, as templates with a switch for thoughts write it
        return f"\n</{opened[1]}>\n\n{response.strip()}", end_text, end
    return response.rstrip(), end_text, end


def _has_thought(response: str, tag: str) -> bool:
    return f"</{tag}>" in response or response.lstrip().startswith(f"<{tag}>")


def _inside(response: str, opened: re.Match[str]) -> str:
    """The response without the beginning of its block, which the prompt has."""
    tag, after = f"<{opened[1]}>", opened[0].partition(">")[2]
    if not response.lstrip().startswith(tag):
        return response
    rest = response.lstrip().removeprefix(tag)
    return rest.removeprefix(after) if rest.startswith(after) else rest.lstrip()


def _rendered_response(
    tokenizer: PreTrainedTokenizerBase, chat: Chat, response: str
) -> tuple[str, str]:
    """The rendered conversation up to the last letter of the response, and what follows that."""
    text = render(tokenizer, [*chat, {"role": "assistant", "content": _marked(response)}])
    head, mark, tail = text.rpartition(END_OF_ANSWER)
    if not mark:
        raise TemplateError(
            "The chat template leaves out the assistant's response. Set chat_template to one that "
            f"renders it. Response: {excerpt(response)}"
        )
    return head, tail


def _up_to_end_of_turn(tokenizer: PreTrainedTokenizerBase, tail: str) -> tuple[str, int]:
    """The text after a response up to and with its end-of-turn token, and that token's id."""
    added = added_tokens(tokenizer)
    if found := added.visible.search(tail):
        return tail[: found.end()], added.ids[found[0]]
    if tokenizer.eos_token is None:
        raise TemplateError(
            f"Nothing ends an assistant turn: the chat template writes {tail!r} after it and the "
            "tokenizer has no EOS token. Set chat_template to one that ends turns."
        )
    return tail.rstrip() + tokenizer.eos_token, tokenizer.eos_token_id


def _refuse_missing_header(
    tokenizer: PreTrainedTokenizerBase, chat: Chat, prompt: str, body: str
) -> None:
    header = added_tokens(tokenizer).special.search(body)
    if header and prompt == render(tokenizer, chat):
        raise TemplateError(
            "The chat template ignores add_generation_prompt: the response would start with "
            f"{body[: header.end()]!r}. Set chat_template to one with a generation prompt."
        )

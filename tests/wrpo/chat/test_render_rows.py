"""From any chat to training rows, for every template family: what is trained on is the response.

Texts are those of test_render.py: any Unicode, and the control tokens of all families.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from tests.wrpo.chat.chat_families import Family
from tests.wrpo.chat.test_render import (
    chat_of,
    chats,
    contents,
    every_family,
    few,
    tokenizer_of,
)
from wrpo.chat.render import end_of_turn_ids, render_prompt, render_response
from wrpo.chat.template import Chat
from wrpo.errors import DataError, TemplateError
from wrpo.rows.columns import TRIPLE_RESPONSES
from wrpo.rows.prepare import prepare_row
from wrpo.rows.token_ids import RowSettings
from wrpo.rows.truncation import TokenLimits
from wrpo.train_sft import SFTExample, tokenised


def control_ids(family: Family, tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[int]:
    special = {tokenizer.convert_tokens_to_ids(token) for token in family.special}
    return [index for index in ids if index in special]


def without_text(chat: Chat) -> Chat:
    """The same turns, each saying one letter; a system text of nothing stays nothing."""
    return [{**turn, "content": "x" if turn["content"].strip() else ""} for turn in chat]


@every_family
@few
@given(texts=chats(), system=contents(), response=contents(), fold=st.booleans())
def test_with_any_system_text_a_chat_has_one_bos_and_the_control_tokens_of_its_turns(
    family: Family, texts: list[str], system: str, response: str, fold: bool
) -> None:
    tokenizer, chat = tokenizer_of(family.name), chat_of(texts, system=system)
    if not family.system and not fold:
        with pytest.raises(TemplateError, match="fold_system: true"):
            render_prompt(tokenizer, chat_of(texts, system="x" + system))
        return
    prompt_ids, response_ids = render_response(tokenizer, chat, response, fold_system=fold)
    assert prompt_ids == render_prompt(tokenizer, chat, fold_system=fold)
    if family.bos is not None:
        count = (prompt_ids + response_ids).count(tokenizer.bos_token_id)
        assert family.bos_begins_turns or count == 1
        assert prompt_ids[0] == tokenizer.bos_token_id
    plain = render_response(tokenizer, without_text(chat), "x", fold_system=fold)
    found = control_ids(family, tokenizer, prompt_ids + response_ids)
    assert found == control_ids(family, tokenizer, plain[0] + plain[1])


@every_family
@few
@given(texts=chats(), responses=st.lists(contents(), min_size=1, max_size=3), room=st.data())
def test_sft_rows_train_on_the_answer_up_to_its_end_of_turn_and_on_nothing_else(
    family: Family, texts: list[str], responses: list[str], room: st.DataObject
) -> None:
    tokenizer = tokenizer_of(family.name)
    samples = [SFTExample(chat_of(texts), response) for response in responses]
    whole = [render_response(tokenizer, one.messages, one.response) for one in samples]
    longest = max(len(prompt) + len(response) for prompt, response in whole)
    limit = room.draw(st.one_of(st.none(), st.integers(1, longest + 1)))
    if limit is not None and limit <= len(whole[0][0]):
        with pytest.raises(DataError, match="cannot be trained on.*max_length is"):
            tokenised(samples, tokenizer, fold_system=False, max_length=limit)
        return
    rows, _ = tokenised(samples, tokenizer, fold_system=False, max_length=limit)
    assert len(rows) == len(samples)
    for row, (prompt, response) in zip(rows, whole, strict=True):
        assert row["input_ids"] == (prompt + response)[:limit]
        kept = row["input_ids"][len(prompt) :]
        assert row["completion_mask"] == [0] * len(prompt) + [1] * len(kept)
        assert kept and kept == response[: len(kept)]


@every_family
@few
@given(texts=chats(), response=contents())
def test_a_response_that_was_cut_is_the_finished_one_without_its_end_of_turn(
    family: Family, texts: list[str], response: str
) -> None:
    tokenizer, chat = tokenizer_of(family.name), chat_of(texts)
    response = f"x{response}"
    prompt, whole = render_response(tokenizer, chat, response)
    found, cut = render_response(tokenizer, chat, response, finished=False)
    assert found == prompt and whole[-1] in end_of_turn_ids(tokenizer)
    assert whole[-1] not in cut
    assert tokenizer.decode(whole).startswith(tokenizer.decode(cut))
    said = [{"role": "assistant", "content": response}]
    row = {"prompt": chat, "chosen": said, "rejected": said}
    names = ("chosen", "rejected")
    ids = prepare_row(
        {**row, "unfinished": ["rejected"]}, tokenizer=tokenizer, settings=RowSettings(names)
    )
    assert (ids["chosen_ids"], ids["rejected_ids"]) == (whole, cut)
    (sample,), _ = tokenised(
        [SFTExample(chat, response, finished=False)], tokenizer, fold_system=False, max_length=None
    )
    assert sample["input_ids"] == prompt + cut


@st.composite
def limits(draw: st.DrawFn) -> TokenLimits:
    """Limits that can work, from less than a turn to more than a chat."""
    size = st.one_of(st.none(), st.integers(2, 120))
    found = TokenLimits(
        max_length=draw(size),
        max_prompt_length=draw(size),
        max_response_length=draw(size),
        mode=draw(st.sampled_from(["separate", "separate", "original"])),
    )
    return found if found.problem() is None else TokenLimits(max_length=draw(st.integers(2, 120)))


@pytest.mark.parametrize("name", ["llama3", "qwen25", "gemma2", "mistral", "phi3"])
@few
@given(texts=chats(), responses=st.lists(contents(), min_size=3, max_size=3), limits=limits())
def test_preference_rows_lose_the_start_of_a_prompt_and_the_tails_of_answers_and_count_it(
    name: str, texts: list[str], responses: list[str], limits: TokenLimits
) -> None:
    tokenizer = tokenizer_of(name)
    said = [[{"role": "assistant", "content": text}] for text in responses]
    row = {"prompt": chat_of(texts), **dict(zip(TRIPLE_RESPONSES, said, strict=True))}
    made = prepare_row(row, tokenizer=tokenizer, settings=RowSettings(limits=limits))
    whole = render_prompt(tokenizer, chat_of(texts))
    prompt, cut = made["prompt_ids"], made["cut_tokens"]
    assert prompt and len(whole) - len(prompt) == cut[0]
    keeps_bos = limits.mode == "separate" and whole[0] == tokenizer.bos_token_id
    head = whole[:1] if keeps_bos else []
    assert prompt == (head + whole[len(whole) - len(prompt) + len(head) :] if cut[0] else whole)
    full = [render_response(tokenizer, chat_of(texts), text)[1] for text in responses]
    left = [ids[: len(ids) - lost] for ids, lost in zip(full, cut[1:], strict=True)]
    assert made["cut_equal"] == (any(cut[1:]) and left[2] in left[:2] and bool(left[2]))
    if made["cut_equal"]:
        left = [[]] * 3
    for response, kept in zip(TRIPLE_RESPONSES, left, strict=True):
        ids = made[f"{response}_ids"]
        assert ids == kept
        if made["cut_equal"]:
            continue
        assert bool(ids) == (limits.max_length is None or len(prompt) < limits.max_length)
        assert limits.max_length is None or not ids or len(prompt + ids) <= limits.max_length
    assert made["length"] == len(prompt) + sum(
        len(made[f"{name}_ids"]) for name in TRIPLE_RESPONSES
    )

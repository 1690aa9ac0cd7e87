import copy

import pytest
from datasets import Dataset, IterableDataset

from tests.wrpo.conftest import make_triples
from wrpo.errors import DataError
from wrpo.rows.columns import has_reference
from wrpo.rows.prepare import prepare_dataset, prepare_row
from wrpo.rows.token_ids import RowSettings
from wrpo.rows.truncation import TokenLimits

RESPONSES = ("source_chosen", "chosen", "rejected")
IDS = ("prompt_ids", *(f"{name}_ids" for name in RESPONSES))
PAIRS = RowSettings(responses=("chosen", "rejected"))
TOKENISED = {
    "triple_id": "t7",
    "prompt_ids": [1, 2, 3, 4],
    "source_chosen_ids": [5] * 9,
    "chosen_ids": [6] * 3,
    "rejected_ids": [7] * 5,
}


def prepared(row, tokenizer, settings=None):
    return prepare_row(row, tokenizer=tokenizer, settings=settings or RowSettings())


def test_conversation_is_rendered_by_the_chat_module(tokenizer):
    from wrpo.chat.render import render_response

    row = make_triples(1)[0]
    result = prepared(row, tokenizer)
    for name in RESPONSES:
        prompt, response = render_response(tokenizer, row["prompt"], row[name][0]["content"])
        assert (result["prompt_ids"], result[f"{name}_ids"]) == (prompt, response)


@pytest.mark.parametrize("single_prompt", [True, False])
def test_published_layout_gives_the_same_ids(tokenizer, single_prompt):
    row = make_triples(1)[0]
    published = {
        "prompt": row["prompt"][0] if single_prompt else row["prompt"],
        "chosen": [*row["source_chosen"], *row["chosen"]],
        "rejected": row["rejected"],
    }
    expected = prepared(row, tokenizer)
    assert {c: prepared(published, tokenizer)[c] for c in IDS} == {c: expected[c] for c in IDS}
    pairs = prepared(published, tokenizer, PAIRS)
    assert pairs["chosen_ids"] == expected["chosen_ids"]
    assert "source_chosen_ids" not in pairs


def test_answer_may_be_a_message_outside_a_list(tokenizer):
    row = make_triples(1)[0]
    bare = {**row, **{name: row[name][0] for name in RESPONSES}}
    assert prepared(bare, tokenizer) == prepared(row, tokenizer)
    pair = {name: bare[name] for name in ("prompt", "chosen", "rejected")}
    assert prepared(pair, tokenizer, PAIRS)["chosen_ids"] == prepared(row, tokenizer)["chosen_ids"]


def test_plain_text_ends_in_one_end_of_sequence_token(tokenizer):
    row = {"prompt": "a: ", "source_chosen": "x", "chosen": "y<|eot|>", "rejected": "zz"}
    result = prepared(row, tokenizer)
    assert tokenizer.decode(result["prompt_ids"]) == "a: "
    texts = [tokenizer.decode(result[f"{name}_ids"]) for name in RESPONSES]
    assert texts == ["x<|eot|>", "y<|eot|>", "zz<|eot|>"]


@pytest.mark.parametrize(
    "chosen", ["text", ["one"], 3, [{"role": "assistant"}], [{"role": "user"}]]
)
def test_a_malformed_answer_is_named(tokenizer, chosen):
    row = {**make_triples(1)[0], "source_chosen": None, "chosen": chosen}
    with pytest.raises(DataError, match="chosen must be one assistant message"):
        prepared(row, tokenizer, PAIRS)


def test_plain_text_needs_text_and_an_end_of_sequence_token(tokenizer):
    row = {"prompt": "a: ", "source_chosen": "x", "chosen": ["y"], "rejected": "zz"}
    with pytest.raises(DataError, match="chosen must be text"):
        prepared(row, tokenizer)
    endless = copy.deepcopy(tokenizer)
    endless.eos_token = None
    with pytest.raises(DataError, match="EOS token, which this one lacks"):
        prepared({**row, "chosen": "y"}, endless)


def test_each_answer_loses_only_its_own_tail(tokenizer):
    result = prepared(TOKENISED, tokenizer, RowSettings(limits=TokenLimits(max_length=9)))
    lengths = [len(result[column]) for column in IDS]
    assert lengths == [4, 5, 3, 5]
    assert result["cut_tokens"] == [0, 4, 0, 0]
    assert result["length"] == sum(lengths)


def test_long_prompt_keeps_bos_and_its_end(tokenizer):
    row = {**TOKENISED, "prompt_ids": [tokenizer.bos_token_id, 50, 51, 52, 53]}
    result = prepared(row, tokenizer, RowSettings(limits=TokenLimits(max_prompt_length=3)))
    assert result["prompt_ids"] == [tokenizer.bos_token_id, 52, 53]
    assert result["cut_tokens"] == [2, 0, 0, 0]


@pytest.mark.parametrize("layout", ["tokenised", "conversational", "published"])
def test_original_cut_is_the_same_for_dpo_as_for_wrpo_on_a_triple(tokenizer, layout):
    row = make_triples(1)[0]
    row["source_chosen"] = [{"role": "assistant", "content": "long " * 50}]
    if layout == "tokenised":
        row = {"prompt_ids": [1] * 30, "chosen_ids": [2] * 40, "rejected_ids": [4] * 40}
        row["source_chosen_ids"] = [3] * 200
    if layout == "published":
        row["chosen"] = [*row.pop("source_chosen"), *row["chosen"]]
    original = TokenLimits(max_length=100, max_prompt_length=98, mode="original")
    triple = prepared(row, tokenizer, RowSettings(limits=original))
    pair = prepared(row, tokenizer, RowSettings(PAIRS.responses, limits=original))
    assert len(pair["rejected_ids"]) == 2
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    assert [pair[name] for name in names] == [triple[name] for name in names]
    assert "source_chosen_ids" not in pair
    assert len(pair["cut_tokens"]) == 3


def test_a_cut_answer_has_no_end_of_turn_and_a_whole_one_has(tokenizer):
    row = make_triples(1)[0]
    row["source_chosen"] = [{"role": "assistant", "content": "long " * 50}]
    result = prepared(row, tokenizer, RowSettings(limits=TokenLimits(max_response_length=40)))
    end = prepared(row, tokenizer)["source_chosen_ids"][-1]
    assert len(result["source_chosen_ids"]) == 40
    assert end not in result["source_chosen_ids"]
    assert result["rejected_ids"][-1] == end


def test_counts_say_what_was_cut_and_dropped(tokenizer):
    rows = [TOKENISED, {**TOKENISED, "prompt_ids": [1] * 12}, {**TOKENISED, "prompt_ids": [1]}]
    settings = RowSettings(limits=TokenLimits(max_length=10))
    dataset, counts = prepare_dataset(
        Dataset.from_list(rows), tokenizer=tokenizer, settings=settings, name="train"
    )
    assert len(dataset) == 2
    assert (counts.rows, counts.rows_cut, counts.dropped) == (3, 1, 1)
    assert counts.cut == {"prompt": 0, "source_chosen": 1, "chosen": 0, "rejected": 0}
    dropped, cut = counts.describe("train dataset", settings.limits)
    assert "1 of 3 rows are not trained on" in dropped
    assert "1 of 3 rows are cut" in cut


@pytest.mark.parametrize("equal", ["source_chosen", "chosen"])
def test_responses_that_a_cut_makes_equal_are_counted_and_left_out(tokenizer, equal):
    row = {**TOKENISED, f"{equal}_ids": [7] * 5 + [8], "rejected_ids": [7] * 5 + [9]}
    settings = RowSettings(limits=TokenLimits(max_response_length=5))
    result = prepared(row, tokenizer, settings)
    assert result["cut_equal"] and not any(result[f"{name}_ids"] for name in RESPONSES)
    assert not prepared(row, tokenizer)["cut_equal"]
    dataset, counts = prepare_dataset(
        Dataset.from_list([row, TOKENISED]), tokenizer=tokenizer, settings=settings, name="train"
    )
    assert len(dataset) == 1
    assert (counts.rows, counts.rows_cut, counts.dropped, counts.equal) == (2, 1, 0, 1)
    with pytest.raises(DataError, match="1 rows have equal responses once they are cut"):
        prepare_dataset(
            Dataset.from_list([row]), tokenizer=tokenizer, settings=settings, name="train"
        )


def test_nothing_cut_is_nothing_to_say(tokenizer):
    rows = Dataset.from_list([TOKENISED])
    settings = RowSettings()
    _, counts = prepare_dataset(rows, tokenizer=tokenizer, settings=settings, name="train")
    assert counts.describe("train dataset", settings.limits) == []


def test_data_set_of_too_long_prompts_is_refused(tokenizer):
    with pytest.raises(DataError, match="max_length"):
        prepare_dataset(
            Dataset.from_list([TOKENISED]),
            tokenizer=tokenizer,
            settings=RowSettings(limits=TokenLimits(max_length=4)),
            name="train",
        )


def test_streamed_rows_are_prepared_and_too_long_prompts_left_out(tokenizer):
    rows = [TOKENISED, {**TOKENISED, "prompt_ids": [1] * 12}]
    stream = IterableDataset.from_generator(lambda: iter(rows))
    dataset, counts = prepare_dataset(
        stream,
        tokenizer=tokenizer,
        settings=RowSettings(limits=TokenLimits(max_length=10)),
        name="train",
    )
    assert counts is None
    assert [len(row["source_chosen_ids"]) for row in dataset] == [6]


def test_preparing_twice_changes_nothing(tokenizer):
    settings = RowSettings(limits=TokenLimits(max_length=9))
    once = prepared(TOKENISED, tokenizer, settings)
    twice = prepared(once, tokenizer, settings)
    assert {c: twice[c] for c in IDS} == {c: once[c] for c in IDS}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source_chosen_ids": None}, "no source_chosen_ids"),
        ({"chosen_ids": []}, "chosen holds no tokens"),
        ({"prompt_ids": []}, "prompt holds no tokens"),
    ],
)
def test_tokenised_row_without_tokens_is_refused_by_its_id(tokenizer, change, message):
    with pytest.raises(DataError, match=f"row triple_id=t7.*{message}"):
        prepared({**TOKENISED, **change}, tokenizer)


@pytest.mark.parametrize(
    "change",
    [
        {"source_chosen": None},
        {"rejected": [{"role": "user", "content": "no"}]},
        {"chosen": [{"role": "assistant", "content": "a"}] * 3},
        {"chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
        {"source_chosen": None, "chosen": "ok"},
        {"prompt": None},
        {"tools": ["calculator"]},
    ],
)
def test_malformed_conversation_is_refused(tokenizer, change):
    with pytest.raises(DataError, match="row triple_id=t0"):
        prepared({**make_triples(1)[0], **change}, tokenizer)


@pytest.mark.parametrize("score", [None, float("nan")])
def test_missing_scores_are_refused_where_they_are_needed(tokenizer, score):
    row = {**TOKENISED, "source_chosen_score": 1.0, "chosen_score": score}
    prepared(row, tokenizer)
    with pytest.raises(DataError, match="chosen_score"):
        prepared(row, tokenizer, RowSettings(needs_scores=True))


def test_reference_of_a_cut_answer_is_refused_unless_its_length_agrees(tokenizer):
    row = {**TOKENISED, "ref_source_chosen_logps": -3.0}
    settings = RowSettings(limits=TokenLimits(max_length=9))
    prepared(row, tokenizer)
    with pytest.raises(DataError, match="ref_source_chosen_length"):
        prepared(row, tokenizer, settings)
    prepared({**row, "ref_source_chosen_length": 5}, tokenizer, settings)
    with pytest.raises(DataError, match="covers 9 tokens, but 5"):
        prepared({**row, "ref_source_chosen_length": 9}, tokenizer, settings)


def test_reference_that_is_not_a_number_is_refused(tokenizer):
    with pytest.raises(DataError, match="ref_chosen_logps is nan"):
        prepared({**TOKENISED, "ref_chosen_logps": float("nan")}, tokenizer)


def test_reference_columns_come_all_or_none():
    columns = [f"ref_{name}_logps" for name in RESPONSES]
    assert has_reference(columns)
    assert not has_reference(["prompt"])
    assert has_reference(columns[1:], PAIRS.responses)
    with pytest.raises(DataError, match="not ref_rejected_logps"):
        has_reference(columns[:2])

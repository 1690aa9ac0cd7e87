"""Arrangement of the packed layout."""

import doctest

import pytest
import torch

import wrpo.prefix.packing
from tests.wrpo.prefix.layouts import LENGTHS, token_rows
from wrpo.collator import DataCollatorForWRPO, by_response
from wrpo.errors import DataError
from wrpo.prefix.packing import PackedLayout, carry_segments, read_segments
from wrpo.rows.columns import TRIPLE_RESPONSES

EXACT = sum(p - 1 + sum(n + 1 for n in responses) for p, responses in LENGTHS)


def collate(layout=None, rows=None, **options):
    rows = token_rows() if rows is None else rows
    return DataCollatorForWRPO(pad_token_id=0, layout=layout or PackedLayout(), **options)(rows)


def test_docstring_examples_hold():
    assert doctest.testmod(wrpo.prefix.packing).failed == 0


def test_a_batch_has_exactly_the_shared_tokens():
    batch = collate()
    assert batch["input_ids"].shape == (1, EXACT)
    assert batch["position_ids"].shape == (1, EXACT)
    assert batch["attention_mask"][..., 0].sum() == EXACT


def test_pairs_have_two_responses_per_prompt():
    batch = collate(responses=("chosen", "rejected"))
    assert batch["input_ids"].numel() == sum(p - 1 + a[1] + a[2] + 2 for p, a in LENGTHS)
    assert batch["attention_mask"].shape[2] == 2 * len(LENGTHS)
    assert set(batch["response_index"].unique().tolist()) == set(range(2 * len(LENGTHS) + 1))


def test_every_response_follows_its_prompt_in_tokens_and_positions():
    rows = token_rows()
    batch = collate(rows=rows)
    ids, positions = batch["input_ids"][0], batch["position_ids"][0]
    lengths = batch["attention_mask"][0, 0, :, 0].tolist()
    runs = list(zip(ids.split(lengths), positions.split(lengths), strict=True))
    for i, row in enumerate(rows):
        prompt, shared = row["prompt_ids"], len(row["prompt_ids"]) - 1
        for place, name in enumerate(TRIPLE_RESPONSES):
            tokens, at = runs[3 * i + place]
            whole = [*prompt, *row[f"{name}_ids"]]
            start = shared if place else 0
            assert tokens.tolist() == whole[start:]
            assert at.tolist() == list(range(start, len(whole)))


def test_labels_and_slots_agree_with_the_lengths():
    batch = collate()
    ones = (batch["labels"][:, 1:] != -100).double()
    assert torch.equal(by_response(ones, batch).long(), batch["lengths"])
    assert ones.sum() == batch["lengths"].sum()


def test_scored_positions_are_those_in_front_of_the_labels():
    whole, scored = collate(), collate(PackedLayout(scored_only=True))
    assert "labels" not in scored
    assert torch.equal(
        whole["labels"].flatten()[scored["scored_index"] + 1], scored["shift_labels"][0]
    )
    assert scored["response_index"].shape == (1, batch_tokens := int(whole["lengths"].sum()))
    assert scored["shift_labels"].numel() == batch_tokens


@pytest.mark.parametrize("budget", [100, 130, 160])
def test_rows_keep_to_the_budget_and_hold_every_response(budget):
    batch = collate(PackedLayout(budget))
    rows, width = batch["input_ids"].shape
    longest = max(p - 1 + sum(n + 1 for n in a) for p, a in LENGTHS)
    assert rows > 1
    assert width <= max(budget, longest)
    assert batch["attention_mask"][..., 0].sum() == rows * width
    counted = by_response((batch["labels"][:, 1:] != -100).float(), batch)
    assert torch.equal(counted.long(), batch["lengths"])


def test_width_is_padded_to_a_multiple():
    batch = collate(pad_to_multiple_of=64)
    assert batch["input_ids"].shape[1] == -(-EXACT // 64) * 64
    assert batch["attention_mask"][0, 0, -1, 0] == batch["input_ids"].shape[1] - EXACT


def test_tokens_are_counted_as_in_the_padded_layout():
    padded = DataCollatorForWRPO(pad_token_id=0)(token_rows())
    assert padded["attention_mask"].sum() == padded["tokens"].sum()
    assert torch.equal(padded["tokens"], collate()["tokens"])


def test_an_empty_prompt_is_refused():
    rows = [{**token_rows()[0], "prompt_ids": []}]
    with pytest.raises(DataError, match="prompt 0"):
        collate(rows=rows)


def test_segments_are_told_to_a_copy_on_another_device():
    batch = DataCollatorForWRPO(pad_token_id=0, layout=PackedLayout())(token_rows())
    table = batch["attention_mask"]
    moved = torch.empty_like(table, device="meta")
    carry_segments(table, moved)
    assert read_segments(moved) == read_segments(table)
    carry_segments(None, None)
    with pytest.raises(NotImplementedError):
        read_segments(torch.empty_like(table, device="meta"))

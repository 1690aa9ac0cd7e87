import doctest

import pytest
import torch

import wrpo.collator
from wrpo.collator import DataCollatorForWRPO, by_response, model_inputs, reference_logps

ROWS = [
    {
        "prompt_ids": [1, 2, 3],
        "source_chosen_ids": [4, 5],
        "chosen_ids": [6],
        "rejected_ids": [7, 8, 9],
        "source_chosen_score": 0.2,
        "chosen_score": 0.1,
    },
    {
        "prompt_ids": [10],
        "source_chosen_ids": [11],
        "chosen_ids": [12, 13],
        "rejected_ids": [14],
        "source_chosen_score": 0.3,
        "chosen_score": 0.3,
    },
]
REFERENCE = ("ref_source_chosen_logps", "ref_chosen_logps", "ref_rejected_logps")


def test_docstring_examples_hold():
    assert doctest.testmod(wrpo.collator).failed == 0


def test_rows_are_source_then_target_then_rejected():
    batch = DataCollatorForWRPO(pad_token_id=0)(ROWS)
    assert batch["input_ids"].tolist() == [
        [1, 2, 3, 4, 5, 0],
        [10, 11, 0, 0, 0, 0],
        [1, 2, 3, 6, 0, 0],
        [10, 12, 13, 0, 0, 0],
        [1, 2, 3, 7, 8, 9],
        [10, 14, 0, 0, 0, 0],
    ]
    assert batch["attention_mask"].sum(dim=1).tolist() == [5, 2, 4, 3, 6, 2]


def test_labels_cover_the_responses_only():
    batch = DataCollatorForWRPO(pad_token_id=0)(ROWS)
    labels = batch["labels"]
    assert [row[row != -100].tolist() for row in labels] == [
        [4, 5],
        [11],
        [6],
        [12, 13],
        [7, 8, 9],
        [14],
    ]


def test_pad_token_inside_a_response_is_still_scored():
    rows = [{**ROWS[0], "chosen_ids": [6, 0]}]
    batch = DataCollatorForWRPO(pad_token_id=0)(rows)
    assert batch["labels"][1].tolist() == [-100, -100, -100, 6, 0, -100]
    assert batch["attention_mask"][1].tolist() == [1, 1, 1, 1, 1, 0]


def test_response_index_counts_every_scored_token_once():
    batch = DataCollatorForWRPO(pad_token_id=0)(ROWS)
    ones = torch.ones(batch["response_index"].shape)
    assert by_response(ones, batch).tolist() == batch["lengths"].tolist() == [[2, 1, 3], [1, 2, 1]]


def test_first_entry_counts_prompts():
    batch = DataCollatorForWRPO(pad_token_id=0)(ROWS)
    assert len(next(iter(batch.values()))) == len(ROWS)


def test_pair_batches_forward_no_source():
    collator = DataCollatorForWRPO(pad_token_id=0, responses=("chosen", "rejected"))
    batch = collator(ROWS)
    assert batch["input_ids"].shape[0] == 4
    assert batch["lengths"].tolist() == [[1, 3], [2, 1]]
    ones = torch.ones(batch["response_index"].shape)
    assert by_response(ones, batch).tolist() == batch["lengths"].tolist()


@pytest.mark.parametrize(("multiple", "width"), [(None, 6), (4, 8), (6, 6)])
def test_width_is_padded_to_a_multiple(multiple, width):
    batch = DataCollatorForWRPO(pad_token_id=0, pad_to_multiple_of=multiple)(ROWS)
    assert batch["input_ids"].shape == (6, width)
    assert batch["response_index"].shape == (6, width - 1)


def test_reference_values_survive_a_cast_of_floating_point_entries():
    rows = [{**row, **dict(zip(REFERENCE, (-401.23, -7.5, -0.125), strict=True))} for row in ROWS]
    batch = DataCollatorForWRPO(pad_token_id=0)(rows)
    cast = {k: v.to(torch.bfloat16) if v.is_floating_point() else v for k, v in batch.items()}
    assert reference_logps(cast)[1].tolist() == pytest.approx([-401.23, -7.5, -0.125], rel=1e-7)


def test_better_response_is_the_higher_scored_and_chosen_on_ties():
    batch = DataCollatorForWRPO(pad_token_id=0, needs_scores=True)(ROWS)
    assert batch["source_is_better"].tolist() == [True, False]


def test_model_gets_nothing_that_only_the_trainer_reads():
    rows = [{**row, **dict.fromkeys(REFERENCE, -1.0)} for row in ROWS]
    batch = DataCollatorForWRPO(pad_token_id=0, needs_scores=True)(rows)
    assert set(model_inputs(batch)) == {"input_ids", "attention_mask", "labels"}

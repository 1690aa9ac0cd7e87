import pytest
from hypothesis import given
from hypothesis import strategies as st

from wrpo.errors import DataError, RecipeError
from wrpo.ids import response_id
from wrpo.objectives.cgpo import Consensus
from wrpo.objectives.pair_loss import Fusion
from wrpo.objectives.reference import (
    rows_by_response_id,
    with_anchors,
    with_consensus,
    with_fused_reference,
    with_reference,
)

NAMES = ("source_chosen", "chosen", "rejected")


def message(text):
    return [{"role": "assistant", "content": text}]


def rows(count=2):
    return [
        {
            "triple_id": f"t{i}",
            "prompt_id": f"p{i}",
            "prompt": [{"role": "user", "content": f"say {i}"}],
            **{name: message(f"{name} {i}") for name in NAMES},
        }
        for i in range(count)
    ]


def table(rows, values, *, length=4, entropy=None, responses=NAMES):
    """Log-probs per row and response: `values` are means."""
    return rows_by_response_id(
        {
            "response_id": response_id(row["prompt"], row[name][0]["content"]),
            "logp": mean * length,
            "length": length,
            "mean_logp": mean,
            "mean_entropy": entropy[i][k] if entropy else None,
            "method": "trainer",
        }
        for i, row in enumerate(rows)
        for k, (name, mean) in enumerate(zip(responses, values[i], strict=True))
    )


def test_reference_is_joined_by_content_whatever_the_order():
    data = rows()
    known = table(data, [[-1, -2, -3], [-4, -5, -6]])
    joined = with_reference(data[::-1], known, responses=NAMES)
    assert [row["ref_rejected_logps"] for row in joined] == [-24, -12]
    assert joined[0]["ref_chosen_length"] == 4


def test_a_changed_answer_is_refused_with_its_row():
    data = rows()
    known = table(data, [[-1, -2, -3], [-4, -5, -6]])
    data[1]["chosen"] = message("another")
    with pytest.raises(DataError, match="1 of 6 responses .* chosen of row t1"):
        with_reference(data, known, responses=NAMES)


def test_fused_means_count_in_tokens_of_the_target():
    data = rows(1)
    initial = table(data, [[-1.0, -1.0, -1.0]], length=4)
    source = table(data, [[-0.5, -2.0, -2.5]], length=10)
    (row,) = with_fused_reference(
        data, initial, {"s": source}, responses=NAMES, fusion=Fusion(), length_normalised=True
    )
    assert row["ref_source_chosen_logps"] == pytest.approx(-0.5 * 4)
    assert row["ref_chosen_logps"] == pytest.approx(-1.0 * 4)  # clipped
    assert row["ref_rejected_logps"] == pytest.approx(-2.5 * 4)
    assert row["ref_rejected_length"] == 4


def test_fused_sums_are_taken_as_they_are():
    data = rows(1)
    initial = table(data, [[-1.0, -1.0, -1.0]], length=4)
    source = table(data, [[-0.3, -2.0, -2.5]], length=10)
    (row,) = with_fused_reference(
        data, initial, {"s": source}, responses=NAMES, fusion=Fusion(), length_normalised=False
    )
    assert row["ref_source_chosen_logps"] == pytest.approx(-3.0)
    assert row["ref_rejected_logps"] == pytest.approx(-25.0)


def test_consensus_replaces_the_reference_of_the_rejected_answer_only():
    data = rows(1)
    initial = table(data, [[-1.0, -2.0, -3.0]], length=5)
    sources = {
        "a": table(data, [[-1.0, -1.0, -4.0]]),
        "b": table(data, [[-3.0, -1.0, -2.0]]),
    }
    settings = Consensus(weighting="uniform")
    (row,) = with_consensus(data, initial, sources, responses=NAMES, settings=settings)
    consensus = [-2.0, -1.0, -3.0]  # its mean is that of the initial policy
    assert row["ref_rejected_logps"] == pytest.approx(consensus[2] * 5)
    assert row["ref_source_chosen_logps"] == pytest.approx(-5.0)
    assert row["ref_chosen_logps"] == pytest.approx(-10.0)


def test_consensus_by_entropy_leans_to_the_surer_source():
    data = rows(2)
    initial = table(data, [[-2.0] * 3] * 2, length=1)
    sure, unsure = [[1.0, 1.0, 0.0], [1.0] * 3], [[1.0, 1.0, 2.0], [1.0] * 3]
    sources = {
        "a": table(data, [[-2.0, -2.0, -1.0], [-2.0] * 3], entropy=sure),
        "b": table(data, [[-2.0, -2.0, -3.0], [-2.0] * 3], entropy=unsure),
    }
    by_entropy, uniform = (
        with_consensus(
            data, initial, sources, responses=NAMES, settings=Consensus(weighting=weighting)
        )
        for weighting in ("entropy", "uniform")
    )
    assert uniform[0]["ref_rejected_logps"] == pytest.approx(-2.0)
    assert by_entropy[0]["ref_rejected_logps"] > -1.6
    assert by_entropy[1]["ref_rejected_logps"] == pytest.approx(-2.0)


def test_consensus_by_entropy_needs_entropies():
    data = rows(2)
    known = table(data, [[-1.0] * 3] * 2)
    with pytest.raises(DataError, match="uniform"):
        with_consensus(data, known, {"a": known}, responses=NAMES, settings=Consensus())


def of_prompts(prompts):
    """Rows whose prompts are these, with responses of their own."""
    return [
        {**row, "prompt_id": f"p{prompt}", "prompt": message(f"say {prompt}")}
        for row, prompt in zip(rows(len(prompts)), prompts, strict=True)
    ]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_an_anchor_answers_another_prompt_however_many_rows_share_one(prompts):
    data = of_prompts(prompts)
    if len(set(prompts)) == 1:
        with pytest.raises(DataError, match="two prompts"):
            with_anchors(data)
        return
    prompt_of = {row["chosen"][0]["content"]: row["prompt_id"] for row in data}
    anchored = with_anchors(data)
    without = {"anchor": None, "unfinished": None}
    assert [{**row, **without} for row in anchored] == [{**row, **without} for row in data]
    for row in anchored:
        assert prompt_of[row["anchor"][0]["content"]] != row["prompt_id"]


def test_rows_of_different_prompts_take_their_anchor_from_the_next_row():
    anchored = with_anchors(rows(3))
    assert [row["anchor"][0]["content"] for row in anchored] == ["chosen 1", "chosen 2", "chosen 0"]


def test_consensus_is_aligned_over_all_responses_of_a_prompt():
    data = of_prompts([0, 1, 0])
    data[2]["chosen"] = data[0]["chosen"]  # counts once
    initial = table(data, [[-1.0, -2.0, -3.0], [-9.0] * 3, [-4.0, -2.0, -6.0]], length=2)
    source = table(data, [[-2.0, -2.0, -2.0], [-1.0] * 3, [-2.0, -2.0, -7.0]])
    settings = Consensus(weighting="uniform")
    joined = with_consensus(data, initial, {"a": source}, responses=NAMES, settings=settings)
    shift = (-1 - 2 - 3 - 4 - 6) / 5 - (-2 - 2 - 2 - 2 - 7) / 5
    expected = [(-2.0 + shift) * 2, -9.0 * 2, (-7.0 + shift) * 2]
    assert [row["ref_rejected_logps"] for row in joined] == pytest.approx(expected)


def test_least_weights_that_leave_nothing_are_refused():
    data = rows(2)
    known = table(data, [[-1.0] * 3] * 2, entropy=[[1.0] * 3] * 2)
    settings = Consensus(floor=0.5)
    with pytest.raises(RecipeError, match="cgpo.floor is 0.5, which 2 sources"):
        with_consensus(data, known, {"a": known, "b": known}, responses=NAMES, settings=settings)

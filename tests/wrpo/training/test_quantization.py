"""Adapters over quantised weights: when they are refused, and what is trained and saved."""

from functools import partial

import pytest
import torch
from peft.tuners.lora import LoraLayer
from transformers import AutoModelForCausalLM

import wrpo.training.saving
from tests.support.tiny_models import save_tiny
from tests.wrpo.training.small_training import logged
from wrpo.errors import ModelError, RecipeError
from wrpo.prefix.packing import PackedLayout
from wrpo.recipe.sampling import Model
from wrpo.training.common import load_policy, lora_config
from wrpo.training.saving import quantization_config, save_model
from wrpo.training.settings import Lora

# bitsandbytes quantises matrices of a multiple of 64 columns.
SHAPE = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16}


def test_nothing_is_quantised_by_default():
    assert Lora().quantize is None
    assert quantization_config(None) is None


def test_the_adapter_config_does_not_see_the_quantisation():
    assert lora_config(Lora(quantize="nf4")) == lora_config(Lora())


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_without_bitsandbytes_the_message_says_what_to_install(kind, monkeypatch, tmp_path):
    monkeypatch.setattr(wrpo.training.saving, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=rf"lora.quantize is {kind}.*wrpo\[qlora\]"):
        load_policy(str(tmp_path), Model(model="m"), quantize=kind)


def test_sharded_weights_are_refused(monkeypatch):
    monkeypatch.setattr(wrpo.training.saving, "find_spec", lambda name: True)
    monkeypatch.setattr("transformers.modeling_utils.is_fsdp_enabled", lambda: True)
    with pytest.raises(RecipeError, match="DDP or ZeRO-2"):
        quantization_config("nf4")


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_adapters_train_over_quantised_weights_and_merge_into_whole_ones(
    kind, make_trainer, tmp_path
):
    pytest.importorskip("bitsandbytes")
    path = str(save_tiny(tmp_path / "base", **SHAPE))
    load = partial(load_policy, path, Model(model=path))
    trainer = make_trainer(
        model=load(quantize=kind),
        peft_config=lora_config(Lora(r=4, quantize=kind)),
        triple_layout="prefix",
        gradient_checkpointing=True,
        learning_rate=1e-2,
        max_steps=6,
        use_cpu=not torch.cuda.is_available(),
    )
    assert isinstance(trainer.data_collator.layout, PackedLayout)
    assert trainer.model.is_quantized
    trainer.train()
    losses = logged(trainer, "loss")
    assert losses[-1] < losses[0] - 0.01
    changes = {
        name.removeprefix("base_model.model."): layer.get_delta_weight("default")
        .detach()
        .float()
        .cpu()
        for name, layer in trainer.model.named_modules()
        if isinstance(layer, LoraLayer)
    }
    save_model(trainer, tmp_path / "model", load_base=load)
    before = load()
    after = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    assert not hasattr(after.config, "quantization_config")
    for name, change in changes.items():
        trained, base = (
            model.get_submodule(name).weight.detach().cpu() for model in (after, before)
        )
        # The adapters are in bfloat16.
        assert (trained - base - change).abs().max() < 1e-2 * change.abs().max(), name
    assert len(changes) == 14
    assert all(change.abs().max() > 0 for change in changes.values())

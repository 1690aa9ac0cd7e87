"""The saved model is the trained one, whatever is trained in it; where it is not, saving fails."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import (
    BOFTConfig,
    IA3Config,
    LoHaConfig,
    LoraConfig,
    PrefixTuningConfig,
    VeraConfig,
    get_peft_model,
)
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

from tests.support.tiny_models import save_tiny, tiny_model, tiny_tokenizer
from tests.wrpo.training.small_training import policy
from wrpo.errors import ModelError, RecipeError
from wrpo.training.same_model import sample_ids, token_logprobs, trained_logprobs
from wrpo.training.saving import save_model

lora = partial(LoraConfig, task_type="CAUSAL_LM", r=4, lora_alpha=16)
ADAPTERS: dict[str, Any] = {
    "none": None,
    "LoRA": lora(target_modules="all-linear"),
    "DoRA": lora(target_modules="all-linear", use_dora=True),
    "rank-stabilised": lora(target_modules="all-linear", use_rslora=True),
    "PiSSA": lora(target_modules=["q_proj"], init_lora_weights="pissa"),
    "biases": lora(target_modules=["q_proj"], bias="all"),
    "patterns": lora(target_modules=["q_proj", "up_proj"], rank_pattern={"up_proj": 2}),
    "one layer": lora(target_modules=["q_proj"], layers_to_transform=[1]),
    "trained head": lora(target_modules=["q_proj"], modules_to_save=["lm_head"]),
    "trained embedding": lora(target_modules=["q_proj"], modules_to_save=["embed_tokens"]),
    "trained both": lora(target_modules=["q_proj"], modules_to_save=["lm_head", "embed_tokens"]),
    "adapter of the head": lora(target_modules=["q_proj", "lm_head"]),
    "adapter of the embedding": lora(target_modules=["q_proj", "embed_tokens"]),
    "trained tokens": lora(target_modules=["q_proj"], trainable_token_indices=[3, 5, 40]),
    "IA3": IA3Config(
        task_type="CAUSAL_LM",
        target_modules=["k_proj", "down_proj"],
        feedforward_modules=["down_proj"],
    ),
    "LoHa": LoHaConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj"]),
    "VeRA": VeraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "o_proj"]),
    "BOFT": BOFTConfig(task_type="CAUSAL_LM", boft_block_size=4, target_modules=["q_proj"]),
}


def moved(folder: Path, model: Any, adapter: Any) -> Trainer:
    """A trainer whose trainable weights are all moved, as if they were trained."""
    model = model if adapter is None else get_peft_model(model, adapter)
    args = TrainingArguments(str(folder), use_cpu=True, bf16=False, report_to="none")
    trainer = Trainer(
        model=model,
        args=args,
        train_dataset=Dataset.from_list([{"input_ids": [1, *range(n, n + 40)]} for n in (7, 90)]),
        processing_class=tiny_tokenizer(),
    )
    trainer.model_wrapped = trainer.accelerator.prepare(model)
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn_like(parameter)
    return trainer


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_what_is_saved_is_what_was_trained(tmp_path: Path, adapter, tied) -> None:
    trainer = moved(tmp_path, tiny_model(tie_word_embeddings=tied), ADAPTERS[adapter])
    trained, rows = trained_logprobs(trainer), sample_ids(trainer)
    before = token_logprobs(tiny_model(tie_word_embeddings=tied), rows)
    assert (trained - before).abs().mean() > 2e-3
    save_model(trainer, tmp_path / "model")
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype="auto")
    assert (token_logprobs(saved, rows) - trained).abs().max() < 1e-4


def test_adapters_that_cannot_be_merged_are_refused(tmp_path: Path) -> None:
    adapter = lora(target_modules=["q_proj"], lora_bias=True)
    trainer = moved(tmp_path, tiny_model(), adapter)
    with pytest.raises(ModelError, match="cannot be merged .* no bias.* are kept"):
        save_model(trainer, tmp_path / "model")


def test_a_head_that_log_probs_would_not_see_is_refused(make_trainer) -> None:
    adapter = ADAPTERS["trained tokens"]
    with pytest.raises(RecipeError, match="TrainableTokensWrapper"):
        make_trainer(model=policy(tie_word_embeddings=True), peft_config=adapter)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_shorter_weights_may_round(make_trainer, tmp_path: Path, dtype) -> None:
    adapter = ADAPTERS["LoRA"]
    model = tiny_model(dtype=dtype)
    trainer = make_trainer(model=model, peft_config=adapter, max_steps=3, learning_rate=3e-2)
    trainer.train()
    save_model(trainer, tmp_path / "model")
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype="auto")
    assert saved.dtype == dtype


def test_a_resized_vocabulary_is_saved_as_it_is(make_trainer, tmp_path: Path) -> None:
    model = policy()
    model.resize_token_embeddings(300)
    trainer = make_trainer(model=model, max_steps=1)
    trainer.train()
    save_model(trainer, tmp_path / "model")
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert saved.get_input_embeddings().num_embeddings == 300


def spoil(path: Path, change) -> None:
    model = AutoModelForCausalLM.from_pretrained(path, dtype="auto")
    change(model)
    model.save_pretrained(path)


CHANGES = {
    "a head that is the embedding": lambda model: model.lm_head.weight.data.copy_(
        model.model.embed_tokens.weight
    ),
    "an adapter that is not merged": lambda model: model.load_state_dict(policy().state_dict()),
    "a layer that is lost": lambda model: model.model.layers[1].mlp.down_proj.weight.data.zero_(),
    "weights in another type": lambda model: model.half(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_model_is_refused_and_the_checkpoint_stays(
    make_trainer, tmp_path: Path, monkeypatch, change
) -> None:
    trainer = make_trainer(
        model=policy(), max_steps=3, learning_rate=3e-2, save_strategy="steps", save_steps=3
    )
    trainer.train()
    save = trainer.save_model

    def save_another(path: str) -> None:
        save(path)
        spoil(Path(path), CHANGES[change])

    monkeypatch.setattr(trainer, "save_model", save_another)
    if change == "weights in another type":  # which is what rounding explains
        save_model(trainer, tmp_path / "model")
        return
    with pytest.raises(ModelError, match=r"is not the trained one: its log-probs differ by .*kept"):
        save_model(trainer, tmp_path / "model")
    assert (Path(trainer.args.output_dir) / "checkpoint-3" / "model.safetensors").is_file()


def test_what_cannot_be_merged_is_refused(make_trainer, tmp_path: Path) -> None:
    adapter = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    trainer = make_trainer(model=tiny_model(), peft_config=adapter, max_steps=1)
    trainer.train()
    with pytest.raises(ModelError, match="is not the trained one"):
        save_model(trainer, tmp_path / "model")


def test_a_folder_that_cannot_be_loaded_is_refused(
    make_trainer, tmp_path: Path, monkeypatch
) -> None:
    trainer = make_trainer(max_steps=1)
    trainer.train()
    monkeypatch.setattr(trainer, "save_model", lambda path: save_tiny(Path(path), hidden_size=64))
    with pytest.raises(ModelError, match="is not the trained one"):
        save_model(trainer, tmp_path / "model")

"""LoRA adapters: the same greedy rows from each engine that loads them, refused elsewhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.wrpo.engines.test_same_rows import LENGTH, SETTINGS, same
from wrpo.chat.render import render_prompt, stop_token_ids
from wrpo.chat.tokenizer import load_tokenizer
from wrpo.engines.local.adapter import adapter_folder, lora_rank
from wrpo.errors import ModelError, RecipeError
from wrpo.pipeline.pipeline import Pipeline
from wrpo.recipe import load_recipe
from wrpo.recipe.sampling import ENGINES, Model, Sampling


@pytest.fixture(scope="module")
def adapter(tiny_models_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random adapter of `one`; one of its matrices has a higher rank than the others."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_models_folder / "one", dtype="float32")
    config = peft.LoraConfig(
        r=4,
        lora_alpha=16,
        target_modules=["q_proj", "v_proj", "down_proj"],
        rank_pattern={"down_proj": 12},
        init_lora_weights=False,
    )
    torch.manual_seed(5)
    folder = tmp_path_factory.mktemp("adapter")
    peft.get_peft_model(model, config).save_pretrained(folder)
    return folder


def responses(backend: str, model: Path, adapter: Path | None) -> list:
    from wrpo.engines import GenerationTask, Request

    tokenizer = load_tokenizer(model)
    requests = [
        Request((0, place, 0), render_prompt(tokenizer, [{"role": "user", "content": text}]), [], 1)
        for place, text in enumerate(["Say sea 1.", "Tell all about hills.", "x"])
    ]
    task = GenerationTask(
        str(model),
        entry=Model(model=str(model), dtype="float32", adapter=str(adapter) if adapter else None),
        sampling=Sampling(max_tokens=24, keep_logprobs=True, temperature=0.0).model_dump(),
        stop_token_ids=stop_token_ids(tokenizer),
        max_model_len=LENGTH,
    )
    engine = ENGINES[backend](**SETTINGS[backend]).load(task)
    return sorted(engine.generate(requests), key=lambda response: response.row)


@pytest.mark.slow
def test_greedy_rows_with_an_adapter_are_equal(tiny_models_folder: Path, adapter: Path) -> None:
    one = tiny_models_folder / "one"
    with_adapter = responses("transformers", one, adapter)
    plain = responses("transformers", one, None)
    assert all(a.text != b.text for a, b in zip(with_adapter, plain, strict=True))
    same(responses("vllm", one, adapter), with_adapter)


def test_a_server_loads_its_adapters_itself(tiny_models_folder: Path, adapter: Path) -> None:
    with pytest.raises(RecipeError, match="--enable-lora --lora-modules"):
        responses("openai", tiny_models_folder / "one", adapter)


def test_the_rank_is_the_highest_of_all_matrices(adapter: Path) -> None:
    assert lora_rank(adapter_folder(str(adapter))) == 12


def test_what_is_no_adapter_is_refused(
    adapter: Path, tiny_models_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=r"has no adapter_model\.safetensors"):
        adapter_folder(str(tiny_models_folder / "one"))
    with pytest.raises(ModelError, match="no such folder"):
        adapter_folder(str(tmp_path / "nowhere"))
    other = shutil.copytree(adapter, tmp_path / "other")
    config = json.loads((other / "adapter_config.json").read_text())
    (other / "adapter_config.json").write_text(json.dumps({**config, "peft_type": "IA3"}))
    with pytest.raises(ModelError, match="is of no LoRA adapter"):
        adapter_folder(str(other))


def test_the_adapters_content_is_in_the_stage_key(
    write_recipe, tiny_models_folder: Path, adapter: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(adapter, tmp_path / "adapter")
    plain = {"model": str(tiny_models_folder / "one")}
    path = write_recipe(sources={"one": plain, "two": {**plain, "adapter": str(copy)}})
    pipeline = Pipeline(load_recipe(path, []))
    assert "adapter" not in pipeline.key("sample/one")["model"]
    assert pipeline.key("sample/two")["model"]["adapter"].startswith("adapter#")


def test_a_target_with_an_adapter_is_refused(write_recipe, tiny_models_folder: Path) -> None:
    target = {"model": str(tiny_models_folder / "target"), "adapter": "org/adapter"}
    with pytest.raises(RecipeError, match="merge the adapter"):
        load_recipe(write_recipe(target=target), [])

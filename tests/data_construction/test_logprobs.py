"""Log-probs of training responses: the training pass, vLLM and sampling say the same."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from data_construction.logprobs import LogProbStage, _tables
from data_construction.prompts import make_prompts
from tests.data_construction.sampled import _write
from wrpo.chat.render import render_response
from wrpo.chat.tokenizer import load_tokenizer
from wrpo.errors import ModelError, RecipeError
from wrpo.ids import response_id
from wrpo.pipeline.folder import StageFolder
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import RESPONSES, ROW_RESPONSES, TRIPLES, Row, read_rows
from wrpo.recipe import Recipe, load_recipe

NAMES = ROW_RESPONSES["triples"]


def finish_sft(recipe: Recipe, *responses: str) -> None:
    """The target stands for the SFT model, as it is or after a few steps on `responses`."""
    pipeline = Pipeline(recipe)
    folder = StageFolder(pipeline.folder("sft"), pipeline.key("sft"))
    folder.open()
    shutil.copytree(recipe.target.model, folder.path / "model")
    if responses:
        teach(folder.path / "model", recipe, responses)
    folder.finish()


def teach(model: Path, recipe: Recipe, responses: tuple[str, ...]) -> None:
    """Trains until the model ends its responses, so that sampled tokens are the rendered ones."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    network, tokenizer = AutoModelForCausalLM.from_pretrained(model), load_tokenizer(str(model))
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    prompts = read_rows(Pipeline(recipe).finished("prompts"))
    for step in range(80):
        row, text = prompts[step % len(prompts)], responses[step % len(responses)]
        prompt, response = render_response(tokenizer, row["messages"], text)
        ids = torch.tensor([prompt + response])
        labels = ids.masked_fill(torch.arange(ids.shape[1]) < len(prompt), -100)
        network(ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    network.save_pretrained(model)


def triples(recipe: Recipe) -> list[Row]:
    prompts = read_rows(Pipeline(recipe).finished("prompts"))
    return [
        {
            "triple_id": f"t{i}",
            "prompt_id": prompt["prompt_id"],
            "prompt": prompt["messages"],
            **{
                name: [{"role": "assistant", "content": f"{name} {'and ' * (i % 4 + k)}{i}"}]
                for k, name in enumerate(NAMES)
            },
            **{f"{name}_source": "target" for name in NAMES},
            **{f"{name}_index": k for k, name in enumerate(NAMES)},
            **{f"{name}_score": 0.0 for name in NAMES},
        }
        for i, prompt in enumerate(prompts)
        if prompt["split"] == "preference"
    ]


def write_triples(recipe: Recipe, rows: list[Row]) -> None:
    pipeline = Pipeline(recipe)
    folder = StageFolder(pipeline.folder("build/triples"), pipeline.key("build/triples"))
    folder.open()
    folder.finish_parts(folder.write_table(rows, TRIPLES))


@pytest.fixture
def ready(write_recipe: Callable[..., Path]) -> Callable[..., Recipe]:
    """A recipe whose triples and SFT model are there; keyword arguments are its sections."""

    def make(**sections: object) -> Recipe:
        path = write_recipe(truncation={"max_length": 160}, **sections)
        recipe = load_recipe(path)
        make_prompts(recipe)
        finish_sft(recipe)
        write_triples(recipe, triples(recipe))
        return recipe

    return make


def plain_sums(recipe: Recipe, model: str, path: str) -> dict[str, tuple[float, int]]:
    """Sum and length of each response by a plain forward pass in float64, one response at a
    time."""
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float64).eval()
    tokenizer = load_tokenizer(path)
    sums = {}
    for row in read_rows(Pipeline(recipe).finished("build/triples")):
        for name in NAMES:
            text = row[name][0]["content"]
            prompt, response = render_response(tokenizer, row["prompt"], text)
            with torch.no_grad():
                logits = network(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
            picked = logits.log_softmax(-1).gather(1, torch.tensor(response)[:, None])
            sums[response_id(row["prompt"], text)] = (picked.sum().item(), len(response))
    return sums


def close(left: float, right: float) -> bool:
    return abs(left - right) <= 1e-6 * abs(right) + 2e-4


@pytest.mark.parametrize("model", ["sft", "two"])
def test_the_training_pass_equals_a_plain_forward_pass(ready, model) -> None:
    recipe = ready(arms={"infifpo": {"objective": "dpo", "reference": "fused"}})
    stage = LogProbStage(recipe, model, "triples")
    stage.run()
    rows = read_rows(stage.pipeline.folder(stage.name))
    expected = plain_sums(recipe, model, stage.path())
    assert {row["response_id"] for row in rows} == set(expected)
    for row in rows:
        logp, length = expected[row["response_id"]]
        assert close(row["logp"], logp) and row["length"] == length
        assert row["mean_logp"] == pytest.approx(row["logp"] / length)
        assert 0 < row["mean_entropy"] < 6 and row["method"] == "trainer"


def test_anchors_are_answers_to_other_prompts(ready) -> None:
    recipe = ready(arms={"cgpo": {"objective": "cgpo"}})
    stage = LogProbStage(recipe, "sft", "anchors")
    stage.run()
    own = {response_id(row["prompt"], row["chosen"][0]["content"]) for row in triples(recipe)}
    anchors = {row["response_id"] for row in read_rows(stage.pipeline.folder(stage.name))}
    assert len(anchors) == len(own) and not anchors & own


def write_samples(recipe: Recipe, error: float, *, keep: bool = True) -> None:
    """Makes `sample/target` hold the very tokens of the triples; log-probs are off by `error`."""
    path = str(Pipeline(recipe).finished("sft") / "model")
    tokenizer, sums = load_tokenizer(path), plain_sums(recipe, "sft", path)
    rows = []
    for row in triples(recipe):
        for k, name in enumerate(NAMES):
            text = row[name][0]["content"]
            _, response = render_response(tokenizer, row["prompt"], text)
            logprob = sums[response_id(row["prompt"], text)][0] + error
            rows.append(
                {
                    "prompt_id": row["prompt_id"],
                    "source": "target",
                    "index": k,
                    "text": text,
                    "token_ids": response if k else response[:-1],
                    "finish_reason": "stop",
                    "token_count": len(response),
                    "seed": 0,
                    "logprob": logprob if keep else None,
                }
            )
    _write(recipe, "sample/target", rows, RESPONSES)


def test_log_probs_of_sampling_serve_where_the_tokens_are_the_same(ready) -> None:
    recipe = ready(logprobs={"method": "sampled"})
    write_samples(recipe, 0.25)
    stage = LogProbStage(recipe, "sft", "triples")
    stage.run()
    expected = plain_sums(recipe, "sft", stage.path())
    rows = read_rows(stage.pipeline.folder(stage.name))
    methods = [row["method"] for row in rows]
    assert methods == ["trainer", "sampled", "sampled"] * (len(rows) // 3)
    for row in rows:
        error = 0.25 if row["method"] == "sampled" else 0.0
        assert close(row["logp"], expected[row["response_id"]][0] + error)


@pytest.mark.parametrize(("error", "shown"), [(0.25, "0.25"), (math.nan, "inf")])
def test_log_probs_of_sampling_that_differ_too_much_are_refused(
    error: float, shown: str, ready
) -> None:
    recipe = ready(logprobs={"method": "sampled", "tolerance": 0.2})
    write_samples(recipe, error)
    with pytest.raises(ModelError, match=rf"{shown} nats .*tolerance=0\.2"):
        LogProbStage(recipe, "sft", "triples").run()


def test_sampling_without_log_probs_is_refused_with_the_way_out(ready) -> None:
    recipe = ready(logprobs={"method": "sampled"})
    write_samples(recipe, 0.0, keep=False)
    with pytest.raises(RecipeError, match="keep_logprobs"):
        LogProbStage(recipe, "sft", "triples").run()


def test_only_tables_that_some_arm_reads_are_offered(ready) -> None:
    recipe = ready(wrpo={"reference": "none"}, arms={"infifpo": {"reference": "fused"}})
    assert _tables(recipe, None, None) == [
        ("sft", "triples"),
        ("one", "triples"),
        ("two", "triples"),
    ]
    with pytest.raises(RecipeError, match="--model one --rows triples"):
        _tables(recipe, "one", "pairs")


@pytest.mark.slow
def test_real_sampling_and_vllm_agree_with_the_training_pass(
    write_recipe, run_module, tiny_models_folder
) -> None:
    path = write_recipe(
        truncation={"max_length": 160},
        target={"model": str(tiny_models_folder / "target"), "dtype": "float32"},
        sample={
            "responses": 2,
            "temperature": 0.7,
            "max_tokens": 8,
            "max_prompt_tokens": 120,
            "engine": {"enforce_eager": True, "kv_cache_mib": 64},
            "keep_logprobs": True,
        },
    )
    recipe = load_recipe(path)
    make_prompts(recipe)
    finish_sft(recipe, "sea", "hill", "rain")
    assert (
        run_module("data_construction.sample", "--source", "target", "--recipe", path) is not None
    )
    responses: dict[str, list[Row]] = {}
    for row in read_rows(Pipeline(recipe).finished("sample/target")):
        responses.setdefault(row["prompt_id"], []).append(row)
    rows = triples(recipe)
    for row in rows:
        for name, response in zip(("chosen", "rejected"), responses[row["prompt_id"]], strict=True):
            row[name] = [{"role": "assistant", "content": response["text"]}]
            row[f"{name}_index"] = response["index"]
    write_triples(recipe, rows)
    tables = {}
    for method in ("trainer", "vllm", "sampled"):
        override = f"logprobs.method={method}"
        arguments = ("--recipe", path, override, "logprobs.tolerance=0.002")
        result = run_module("data_construction.logprobs", *arguments)
        assert result.returncode == 0, result.stderr[-3000:]
        folder = Pipeline(recipe).folder("logprobs/sft/triples")
        tables[method] = {row["response_id"]: row for row in read_rows(folder)}
        shutil.rmtree(folder)
    assert {row["method"] for row in tables["vllm"].values()} == {"vllm"}
    assert "sampled" in {row["method"] for row in tables["sampled"].values()}
    for method in ("vllm", "sampled"):
        for key, row in tables["trainer"].items():
            assert tables[method][key]["logp"] == pytest.approx(row["logp"], abs=2e-3)
            assert tables[method][key]["length"] == row["length"]

"""Offline vLLM, `vllm serve` and transformers give the same greedy rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.tiny_models import VLLM_SHAPE, save_tiny, tiny_tokenizer
from tests.support.vllm_server import vllm_serve
from wrpo.chat.render import render_prompt, stop_token_ids
from wrpo.chat.tokenizer import load_tokenizer
from wrpo.engines import Completion, GenerationTask, Request
from wrpo.recipe.sampling import ENGINES, Model, Sampling

SETTINGS = {
    "vllm": {"enforce_eager": True, "kv_cache_mib": 64, "max_num_seqs": 4},
    "transformers": {"max_num_seqs": 4},
    "openai": {},
}
LENGTH = 256


@pytest.fixture(scope="module")
def server(tiny_models_folder: Path) -> Iterator[tuple[str, Path]]:
    """A running `vllm serve` of the model `one`: its base URL, and that model's folder."""
    model = tiny_models_folder / "one"
    with vllm_serve(model, max_model_len=LENGTH) as url:
        yield url, model


def rows(
    backend: str,
    model: Path,
    *,
    url: str | None = None,
    chat: bool = False,
    own: dict[int, dict[str, float]] | None = None,
    **sampling: float,
) -> list[Completion]:
    """Responses of one engine; `own`: sampling fields of the responses with this index."""
    usual = {"max_tokens": 24, "keep_logprobs": True, **sampling}
    by_index = {
        index: Sampling(**{**usual, **fields}).model_dump() for index, fields in (own or {}).items()
    }
    tokenizer = load_tokenizer(model)
    requests = []
    for position, text in enumerate(["Say sea 1.", "Tell all about hills and moons.", "x", "Y?"]):
        messages = [{"role": "user", "content": text}]
        ids = [] if chat else render_prompt(tokenizer, messages)
        requests += [
            Request(
                (0, position, index), ids, messages, 100 * position + index, by_index.get(index)
            )
            for index in range(2)
        ]
    served = {"endpoints": [url], "api": "chat" if chat else "completions"} if url else {}
    task = GenerationTask(
        str(model),
        entry=Model(model=str(model), dtype="float32"),
        sampling=Sampling(**usual).model_dump(),
        stop_token_ids=stop_token_ids(tokenizer),
        max_model_len=LENGTH,
    )
    loaded = ENGINES[backend](**SETTINGS[backend], **served).load(task)
    found = sorted(loaded.generate(requests), key=lambda response: response.row)
    assert all(isinstance(response, Completion) for response in found)
    return found


def same(found: list[Completion], expected: list[Completion], *, ids: bool = True) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one.row, one.text, one.finish_reason) == (
            other.row,
            other.text,
            other.finish_reason,
        )
        assert one.token_count == other.token_count
        assert one.logprob == pytest.approx(other.logprob, abs=1e-3)
        if ids:
            assert one.token_ids == other.token_ids


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["transformers", "vllm"])
def test_a_request_with_sampling_of_its_own_is_drawn_by_it(
    server: tuple[str, Path], backend: str
) -> None:
    _, model = server
    greedy = rows(backend, model, temperature=0.0, max_tokens=6)
    mixed = rows(backend, model, own={1: {"temperature": 0.0, "max_tokens": 6}})
    usual = rows(backend, model)
    for got, short, long in zip(mixed, greedy, usual, strict=True):
        assert got.text == (short if got.row[2] == 1 else long).text
        assert got.token_count <= (6 if got.row[2] == 1 else 24)


PENALTIES = {"repetition_penalty": 1.3, "presence_penalty": 0.5, "frequency_penalty": 0.2}


@pytest.mark.slow
@pytest.mark.parametrize("penalties", [{}, PENALTIES])
def test_greedy_rows_of_the_three_engines_are_equal(
    server: tuple[str, Path], penalties: dict[str, float]
) -> None:
    url, model = server
    offline = rows("vllm", model, temperature=0.0, **penalties)
    same(rows("openai", model, url=url, temperature=0.0, **penalties), offline)
    same(rows("transformers", model, temperature=0.0, **penalties), offline)
    assert {response.finish_reason for response in offline} <= {"stop", "length"}
    assert len({response.text for response in offline}) == 4


@pytest.mark.slow
def test_a_chat_request_gives_the_text_and_log_prob_of_the_token_ids(
    server: tuple[str, Path],
) -> None:
    url, model = server
    by_ids = rows("openai", model, url=url, temperature=0.0)
    same(rows("openai", model, url=url, chat=True, temperature=0.0), by_ids, ids=False)


@pytest.mark.slow
def test_the_server_draws_what_offline_vllm_draws_from_the_same_seeds(
    server: tuple[str, Path],
) -> None:
    url, model = server
    served = rows("openai", model, url=url, temperature=1.0, top_k=50, min_p=0.01)
    same(served, rows("vllm", model, temperature=1.0, top_k=50, min_p=0.01))
    assert len({response.text for response in served}) == 8


@pytest.mark.slow
@pytest.mark.parametrize("family", ["qwen2", "gemma2"])
def test_a_pruned_folder_gives_the_rows_of_transformers(tmp_path: Path, family: str) -> None:
    """Without a whole layer, and with the attention of one and the MLP of another at zero.

    Of Gemma 2 two layers with a window are then neighbours, and responses are longer than it.
    """
    from transformers import AutoModelForCausalLM

    from wrpo.pruning.blocks import ResidualBlock
    from wrpo.pruning.export import save_pruned

    whole = save_tiny(tmp_path / "whole", family, num_hidden_layers=4, **VLLM_SHAPE)
    layer = [ResidualBlock("attention", 1), ResidualBlock("mlp", 1)]
    halves = [ResidualBlock("attention", 2), ResidualBlock("mlp", 3)]
    pruned = tmp_path / "pruned"
    save_pruned(AutoModelForCausalLM.from_pretrained(whole), [*layer, *halves], pruned)
    tiny_tokenizer().save_pretrained(pruned)
    config = json.loads((pruned / "config.json").read_text())
    assert config["num_hidden_layers"] == len(config["layer_types"]) == 3
    assert config["removed_blocks"] == [["attention", 1], ["mlp", 2]]

    expected = rows("transformers", pruned, temperature=0.0)
    same(rows("vllm", pruned, temperature=0.0), expected)
    before = rows("transformers", whole, temperature=0.0)
    for one, other in zip(before, expected, strict=True):
        assert one.text != other.text or abs(one.logprob - other.logprob) > 0.05

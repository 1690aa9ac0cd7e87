"""Bad rows of every kind, fed to prompts, sample and score: each is dropped with its reason."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from data_construction.prompts import make_prompts
from data_construction.sample import sample
from data_construction.sampling.part_sampler import PartSampler
from data_construction.score import score_sources
from tests.conftest import REPOSITORY
from tests.support.completion_server import CompletionServer, Reply, Seen, response
from wrpo.errors import DataError
from wrpo.pipeline.parts import Shard
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import read_parquet, read_rows
from wrpo.recipe import load_recipe

POISON = "~"
"""A character whose token has no finite embedding in the reward model."""

GOOD = 14
OVERRIDES = [
    "prompts.datasets.words.reference_answer=null",
    "prompts.datasets.words.domain=null",
    "sample.chunk_prompts=16",  # one part: scoring compares what it has seen with its limit
]
SYSTEM = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say sea."}]


@pytest.fixture
def server() -> Iterator[CompletionServer]:
    def script(number: int, _: Seen) -> Reply:
        return response({0: "", 1: f"hill {POISON}"}.get(number, f"sea {number}"))

    started = CompletionServer(script)
    yield started
    started.close()


@pytest.fixture
def poisoned_reward(tiny_models_folder: Path, tmp_path: Path) -> Path:
    """The tiny reward model, with not-a-number in the embedding of one token."""
    import torch
    from transformers import AutoTokenizer, LlamaForSequenceClassification

    tokenizer = AutoTokenizer.from_pretrained(tiny_models_folder / "reward")
    model = LlamaForSequenceClassification.from_pretrained(tiny_models_folder / "reward")
    with torch.no_grad():
        model.model.embed_tokens.weight[tokenizer.convert_tokens_to_ids(POISON)] = torch.nan
    model.save_pretrained(tmp_path / "reward")
    tokenizer.save_pretrained(tmp_path / "reward")
    return tmp_path / "reward"


@pytest.fixture
def recipe_path(
    write_recipe: Callable[..., Path],
    server: CompletionServer,
    tiny_models_folder: Path,
    poisoned_reward: Path,
    tmp_path: Path,
) -> Path:
    """One source, served; its template knows no system role."""
    lines = [json.dumps({"text": f"Say moon {n}."}).encode() for n in range(GOOD)]
    lines += [
        json.dumps({"text": "long " * 60}).encode(),
        b'{"text": "\xff\xfe"}',
        json.dumps({"text": "Say moon 0."}).encode(),
        json.dumps({"text": SYSTEM}).encode(),
    ]
    path = write_recipe(
        sources={
            "one": {
                "model": str(tiny_models_folder / "one"),
                "chat_template": str(REPOSITORY / "tests/fixtures/templates/gemma2.jinja"),
                "engine": {"backend": "openai", "endpoints": [server.url], "concurrency": 1},
            }
        },
        rewards={
            "style": {"type": "classifier", "model": str(poisoned_reward), "dtype": "float32"}
        },
    )
    (tmp_path / "prompts.jsonl").write_bytes(b"\n".join(lines))
    return path


def reasons(folder: Path) -> dict[str, str]:
    return {row["reason"]: row["detail"] for row in read_parquet(folder / "dropped.parquet")}


@pytest.mark.slow
def test_each_bad_row_is_dropped_with_its_reason_and_the_rest_goes_on(recipe_path: Path) -> None:
    recipe = load_recipe(recipe_path, OVERRIDES)
    make_prompts(recipe)
    sample(PartSampler(recipe, "one"), Shard(1, 1))
    score_sources(recipe, ["one"], Shard(1, 1))

    pipeline = Pipeline(recipe)
    unread = reasons(pipeline.finished("prompts"))
    assert unread.keys() == {"unusable", "duplicate"} and "UTF-8" in unread["unusable"]
    unasked = reasons(pipeline.finished("sample/one"))
    assert unasked.keys() == {"prompt_too_long", "template"}
    assert "System role not supported" in unasked["template"]
    assert len(read_rows(pipeline.finished("sample/one"))) == 2 * GOOD
    unscored = reasons(pipeline.finished("score/one"))
    assert unscored == {"empty_response": "", "score_not_finite": "style gave nan"}
    assert len(read_rows(pipeline.finished("score/one"))) == 2 * GOOD - 2


@pytest.mark.slow
def test_above_the_stated_share_the_stage_stops_and_stays_stopped(
    recipe_path: Path, server: CompletionServer
) -> None:
    recipe = load_recipe(recipe_path, [*OVERRIDES, "sample.max_dropped_share=0.05"])
    make_prompts(recipe)
    for _ in range(2):
        with pytest.raises(DataError, match="max_dropped_share=5%"):
            sample(PartSampler(recipe, "one"), Shard(1, 1))
    assert Pipeline(recipe).state("sample/one") == "partial"
    sample(PartSampler(load_recipe(recipe_path, OVERRIDES), "one"), Shard(1, 1))
    assert Pipeline(recipe).state("sample/one") == "done"

"""Engine keys belong to backends: inherited where known, refused by name where not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.recipe_files import tiny_recipe
from wrpo.engines.openai import OpenAISettings
from wrpo.engines.transformers import TransformersSettings
from wrpo.engines.vllm import VLLMSettings
from wrpo.errors import RecipeError
from wrpo.recipe import dump_recipe
from wrpo.recipe.load import check
from wrpo.recipe.resolved import resolved_engine, vllm_engine
from wrpo.recipe.yaml_source import parse_yaml

VLLM = "sample:\n  engine: {enforce_eager: true, max_num_seqs: 8, replicas: 2}\n"
SERVED = "sources.letters.engine={backend: openai, endpoints: [http://h:1/v1], retries: 3}"


def refusal(folder: Path, override: str) -> str:
    with pytest.raises(RecipeError) as caught:
        tiny_recipe(folder, override)
    return str(caught.value)


def test_a_source_inherits_what_its_backend_knows(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, SERVED, extra=VLLM)
    expected = OpenAISettings(endpoints=["http://h:1/v1"], retries=3, replicas=2)
    assert resolved_engine(recipe, "letters") == expected
    vllm = VLLMSettings(enforce_eager=True, max_num_seqs=8, replicas=2)
    assert resolved_engine(recipe, "numbers") == vllm
    assert vllm_engine(recipe, "letters") == vllm
    again = check(parse_yaml(dump_recipe(recipe), name="resolved"))
    assert resolved_engine(again, "letters") == expected


def test_a_later_layer_that_names_another_backend_leaves_out_what_that_lacks(
    tmp_path: Path,
) -> None:
    recipe = tiny_recipe(tmp_path, "sample.engine.backend=transformers", extra=VLLM)
    expected = TransformersSettings(max_num_seqs=8, replicas=2)
    assert recipe.sample.engine == resolved_engine(recipe, "letters") == expected


@pytest.mark.parametrize(
    ("override", "place"),
    [
        ("sample.engine.concurrency=3", "sample.engine.concurrency: backend vllm"),
        ("sources.letters.engine.api=chat", "sources.letters.engine.api: backend vllm"),
        ("target.engine.retries=3", "target.engine.retries: backend vllm"),
    ],
)
def test_a_key_of_another_backend_is_refused_by_name(
    tmp_path: Path, override: str, place: str
) -> None:
    message = refusal(tmp_path, override)
    assert f"{place} has no {place.split(':')[0].split('.')[-1]}; openai has" in message
    assert override in message


def test_a_key_of_no_backend_is_an_unknown_key(tmp_path: Path) -> None:
    message = refusal(tmp_path, "sample.engine.max_num_seq=3")
    assert 'sample.engine.max_num_seq: unknown key; did you mean "max_num_seqs"?' in message


def test_what_only_decides_how_a_judge_is_asked_stands_under_its_engine(tmp_path: Path) -> None:
    judge = "judges={j: {model: m, endpoints: [http://h:1/v1], retries: 2}}"
    message = refusal(tmp_path, judge)
    assert "judges.j: endpoints, retries belong under `engine:`" in message

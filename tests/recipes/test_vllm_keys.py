"""`engine.vllm`: names of the installed vLLM, and what is decided elsewhere is refused."""

import pytest

from wrpo.engines.local.vllm_arguments import DECIDED
from wrpo.errors import RecipeError
from wrpo.recipe import load_recipe
from wrpo.recipe.resolved import resolved_engine
from wrpo.source_fields import class_annotations


def test_arguments_of_a_source_are_added_to_those_of_the_recipe(write_recipe) -> None:
    recipe = load_recipe(
        write_recipe(),
        ["sample.engine.vllm={kv_cache_dtype: fp8}", "sources.one.engine.vllm={block_size: 32}"],
    )
    assert resolved_engine(recipe, "one").vllm == {"kv_cache_dtype": "fp8", "block_size": 32}
    assert resolved_engine(recipe, "two").vllm == {"kv_cache_dtype": "fp8"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("{kv_cache_dtyp: fp8}", 'did you mean "kv_cache_dtype"'),
        ("{tensor_parallel_size: 2}", "write `engine.tensor_parallel_size`"),
        ("{hf_token: abc}", "hf_token: holds a secret, by its name"),
        ("{hf_overrides: {}}", "changes the responses"),
    ],
)
def test_what_does_not_belong_there_is_refused(arguments: str, message: str, write_recipe) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(write_recipe(), [f"sample.engine.vllm={arguments}"])


def test_every_refused_name_is_a_name_of_vllm() -> None:
    known = class_annotations("vllm", "engine/arg_utils.py", "EngineArgs")
    assert DECIDED.keys() - known.keys() == set()

"""docs/adding-a-source.md: its files can be named in a recipe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.docs.changed_code import named_files
from wrpo.recipe import load_recipe


def test_the_sources_can_be_named_in_a_recipe(write_recipe: Callable[..., Path]) -> None:
    path = write_recipe(sources=["olmo2-13b", "hosted"])
    for name, text in named_files("adding-a-source.md").items():
        (path.parent / "sources").mkdir(exist_ok=True)
        (path.parent / "sources" / Path(name).name).write_text(text, encoding="utf-8")
    sources = load_recipe(path).sources
    assert sources["olmo2-13b"].sampling.temperature == 0.7
    assert sources["olmo2-13b"].engine.tensor_parallel_size == 2
    assert sources["hosted"].engine.backend == "openai"
    assert sources["hosted"].engine.api_key_env == "VENDOR_API_KEY"

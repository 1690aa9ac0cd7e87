"""The limit on dropped responses counts a dropped prompt as all responses that it would have
had."""

import pytest

from data_construction.prompts import make_prompts
from data_construction.sampling.part_sampler import PartSampler, drop_limit
from wrpo.errors import DataError, RecipeError
from wrpo.pipeline.parts import open_stage
from wrpo.pipeline.tables import RESPONSES, Drop
from wrpo.recipe import load_recipe


def test_a_dropped_prompt_costs_the_answers_of_its_domain(write_recipe) -> None:
    sample = {"domains": {"k0": {"responses": 4}}, "max_dropped_share": 0.2}
    recipe = load_recipe(write_recipe(prompts=10, sample={"responses": 1, **sample}))
    make_prompts(recipe)
    sampler = PartSampler(recipe, "one")
    prompts = sampler.prompts.read(0)
    assert sampler.responses() == 5 * 4 + 5
    dropped = [Drop("template").row(row["prompt_id"]) for row in prompts]
    few = [row for row, prompt in zip(dropped, prompts, strict=True) if prompt["domain"] == "k1"]
    many = [row for row, prompt in zip(dropped, prompts, strict=True) if prompt["domain"] == "k0"]
    parts, told = len(sampler.prompts), f"{len(few) + 4 * len(many)} of 25 rows dropped"
    with (
        pytest.raises(DataError, match=told),
        open_stage(sampler.pipeline, "sample/one", parts=parts, limit=drop_limit(sampler)) as work,
    ):
        work.writer.write_part(0, [], RESPONSES, dropped=few)
        work.written(0)
        work.writer.write_part(1, [], RESPONSES, dropped=many)
        work.written(1)
    assert sampler.pipeline.state("sample/one") == "partial"


def test_fields_of_requests_are_refused_where_none_are_sent(write_recipe) -> None:
    recipe = load_recipe(write_recipe(), ["sources.one.body={reasoning_effort: low}"])
    with pytest.raises(RecipeError, match=r"one: body .* backend vllm sends none"):
        PartSampler(recipe, "one")

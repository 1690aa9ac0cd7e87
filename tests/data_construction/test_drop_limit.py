"""The limit on dropped answers counts a dropped prompt as all answers that it would have had."""

import pytest

from data_construction.prompts import make_prompts
from data_construction.sampling.part_sampler import PartSampler, answer_limit
from wrpo.errors import DataError
from wrpo.pipeline.tables import RESPONSES, Drop
from wrpo.recipe import load_recipe


def test_a_dropped_prompt_costs_the_answers_of_its_domain(write_recipe) -> None:
    sample = {"domains": {"k0": {"responses": 4}}, "max_dropped_share": 0.2}
    recipe = load_recipe(write_recipe(prompts=10, sample={"responses": 1, **sample}))
    make_prompts(recipe)
    sampler = PartSampler(recipe, "one")
    sampler.folder.open(parts=len(sampler.prompts))
    prompts = sampler.prompts.read(0)
    assert sampler.answers() == 5 * 4 + 5
    limit = answer_limit(sampler)
    dropped = [Drop("template").row(row["prompt_id"]) for row in prompts]
    few = [row for row, prompt in zip(dropped, prompts, strict=True) if prompt["domain"] == "k1"]
    sampler.folder.write_part(0, [], RESPONSES, dropped=few)
    limit.add_part(0)
    many = [row for row, prompt in zip(dropped, prompts, strict=True) if prompt["domain"] == "k0"]
    sampler.folder.write_part(1, [], RESPONSES, dropped=many)
    with pytest.raises(DataError, match=f"{len(few) + 4 * len(many)} of 25 rows dropped"):
        limit.add_part(1)

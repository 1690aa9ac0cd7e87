from pathlib import Path

import pytest

from wrpo.errors import RecipeError, StageError
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.run import _jobs, run_pipeline
from wrpo.recipe import load_recipe


@pytest.fixture
def pipeline(write_recipe) -> Pipeline:
    return Pipeline(load_recipe(write_recipe()))


def test_scores_of_all_sources_share_one_process(pipeline: Pipeline) -> None:
    jobs = {job.name: job for job in _jobs(pipeline, list(pipeline.stages))}
    assert jobs["score"].stages == ("score/one", "score/two")
    assert jobs["score"].command == ("data_construction.score", "--source", "all")
    assert jobs["score/target"].command == ("data_construction.score", "--source", "target")


def test_a_job_waits_for_the_inputs_of_all_its_stages(pipeline: Pipeline) -> None:
    jobs = {job.name: job for job in _jobs(pipeline, list(pipeline.stages))}
    assert jobs["score"].inputs == {"prompts", "sample/one", "sample/two"}
    assert jobs["sample/one"].inputs == {"prompts"}
    assert jobs["wrpo"].inputs == {"build/triples", "sft", "logprobs/sft/triples"}


def test_no_jobs_at_once_is_refused(write_recipe) -> None:
    with pytest.raises(RecipeError, match="--jobs is 0"):
        run_pipeline(load_recipe(write_recipe()), jobs=0)


def test_every_stage_is_in_one_job(pipeline: Pipeline) -> None:
    stages = [stage for job in _jobs(pipeline, list(pipeline.stages)) for stage in job.stages]
    assert stages == list(pipeline.stages)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_failing_stage_stops_the_run_and_says_why(write_recipe, jobs: int, capfd) -> None:
    path = write_recipe()
    (path.parent / "prompts.jsonl").write_text("not json\n")
    with pytest.raises(StageError, match=r"prompts failed \(exit code 2\)") as caught:
        run_pipeline(load_recipe(path), jobs=jobs)
    shown = str(caught.value) if jobs > 1 else capfd.readouterr().err
    assert "no usable prompt" in shown


def test_the_resolved_recipe_is_kept_and_loads_back(write_recipe) -> None:
    path = write_recipe()
    (path.parent / "prompts.jsonl").write_text("")
    recipe = load_recipe(path, ["sample.responses=3"])
    with pytest.raises(StageError):
        run_pipeline(recipe)
    saved: Path = recipe.runs / recipe.run / "recipe.yaml"
    assert load_recipe(saved) == recipe


def test_a_finished_stage_with_other_settings_is_refused_before_anything_runs(write_recipe) -> None:
    from data_construction.prompts import make_prompts

    path = write_recipe()
    make_prompts(load_recipe(path))
    with pytest.raises(StageError, match=r"sft_share: 0.333\d* -> 0.5"):
        run_pipeline(load_recipe(path, ["prompts.sft_share=0.5"]))

"""What `peek` shows of a stage folder."""

from data_construction.prompts import make_prompts
from wrpo.pipeline.pipeline import Pipeline
from wrpo.recipe import load_recipe


def test_it_shows_as_many_rows_as_were_asked_for(write_recipe, run_module) -> None:
    recipe = load_recipe(write_recipe(prompts=5))
    make_prompts(recipe)
    folder = Pipeline(recipe).finished("prompts")
    for count in (0, 2):
        shown = run_module("data_construction.peek", folder, "--rows", count)
        assert shown.returncode == 0 and "complete, 1 parts, 5 rows" in shown.stdout
        assert shown.stdout.count("user: Say") == count


def test_a_number_of_rows_below_none_is_refused(write_recipe, run_module, tmp_path) -> None:
    shown = run_module("data_construction.peek", tmp_path, "--rows=-1")
    assert shown.returncode == 2
    assert "-1 is no number of rows" in shown.stderr and "Traceback" not in shown.stderr


def test_rows_are_chosen_by_the_text_of_a_column(write_recipe, run_module) -> None:
    recipe = load_recipe(write_recipe(prompts=6))
    make_prompts(recipe)
    folder = Pipeline(recipe).finished("prompts")
    shown = run_module("data_construction.peek", folder, "--rows", 6, "--where", "domain=k1")
    assert shown.stdout.count("user: Say") == 3
    wrong = run_module("data_construction.peek", folder, "--where", "domian=k1")
    assert wrong.returncode == 2 and "no column domian; columns: prompt_id" in wrong.stderr

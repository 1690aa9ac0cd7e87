"""The recipe loader: what it accepts, what it refuses, and how it says so."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from tests.support.recipe_files import MINIMAL, tiny_recipe, write_recipe
from wrpo.errors import RecipeError
from wrpo.pipeline.pipeline import Pipeline
from wrpo.recipe import Recipe, dump_recipe, load_recipe, preference, save_recipe
from wrpo.recipe.load import check
from wrpo.recipe.shipped import find_recipe
from wrpo.recipe.yaml_source import Located, merge, parse_yaml


def load(folder: Path, extra: str = "", *overrides: str) -> Recipe:
    return load_recipe(write_recipe(folder, MINIMAL + textwrap.dedent(extra)), list(overrides))


def refusal(folder: Path, extra: str = "", *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load(folder, extra, *overrides)
    return str(caught.value).replace(str(folder), "FOLDER")


def line_of(folder: Path, text: str) -> int:
    lines = (folder / "recipe.yaml").read_text("utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


# --- scalars ---


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-7", 5e-7),
        ("1E3", 1000.0),
        ("-.5", -0.5),
        ("1.", 1.0),
        ("+2.5e+3", 2500.0),
        ("12", 12),
        ("-3", -3),
        ("no", "no"),
        ("on", "on"),
        ("y", "y"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2024-07-28", "2024-07-28"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ('"5e-7"', "5e-7"),
        ("e5", "e5"),
        (".", "."),
        ("-", None),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: Any) -> None:
    if text == "-":
        value = [None]
    parsed = parse_yaml(f"key: {text}" if text != "-" else "key:\n- ", name="x").value["key"]
    assert parsed == value
    assert type(parsed) is type(value)


def test_scientific_notation_without_a_dot_is_a_number(tmp_path: Path) -> None:
    recipe = load(tmp_path, "wrpo:\n  train:\n    learning_rate: 5e-7\n")
    assert recipe.wrpo.train["learning_rate"] == 5e-7


def test_no_stays_the_word_no(tmp_path: Path) -> None:
    recipe = load(tmp_path, "wrpo:\n  train:\n    save_strategy: no\n")
    assert recipe.wrpo.train["save_strategy"] == "no"


def test_infinity_is_no_number_for_a_setting(tmp_path: Path) -> None:
    assert "finite" in refusal(tmp_path, "wrpo:\n  beta: .inf\n")


# --- strict keys, with place and help ---


def test_unknown_top_level_key_is_refused_with_its_line(tmp_path: Path) -> None:
    message = refusal(tmp_path, "wpro:\n  beta: 0.1\n")
    assert f"FOLDER/recipe.yaml:{line_of(tmp_path, 'wpro:')}: wpro: unknown key" in message
    assert 'did you mean "wrpo"?' in message


def test_unknown_nested_key_names_the_neighbour(tmp_path: Path) -> None:
    message = refusal(tmp_path, "wrpo:\n  alpha:\n    schedul: linear\n")
    assert f":{line_of(tmp_path, 'schedul')}: wrpo.alpha.schedul: unknown key" in message
    assert 'did you mean "schedule"?' in message


def test_unknown_key_of_a_source_names_the_neighbour(tmp_path: Path) -> None:
    message = refusal(tmp_path, "", "sources.letters.revison=main")
    assert 'sources.letters.revison: unknown key; did you mean "revision"?' in message


def test_unknown_key_of_a_reward_names_the_neighbour(tmp_path: Path) -> None:
    message = refusal(tmp_path, "", "rewards.rm.wieght=2")
    assert 'rewards.rm.wieght: unknown key; did you mean "weight"?' in message


def test_unknown_key_far_from_all_lists_the_known_ones(tmp_path: Path) -> None:
    message = refusal(tmp_path, "", "wrpo.alpha.zzz=1")
    assert "known: end, schedule" in message


def test_missing_section_is_named(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, "run: a\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    for name in ("sources", "target", "prompts", "rewards"):
        assert f"{name}: is required and not given" in str(caught.value)


def test_wrong_type_shows_value_and_line(tmp_path: Path) -> None:
    message = refusal(tmp_path, "sample:\n  responses: many\n")
    assert f":{line_of(tmp_path, 'responses')}: sample.responses: " in message
    assert "not 'many'" in message


@pytest.mark.parametrize(
    "override",
    [
        "sample.responses=0",
        "sample.temperature=-1",
        "sample.top_p=1.5",
        "wrpo.beta=0",
        "wrpo.alpha.end=1.2",
        "wrpo.alpha.schedule=convex",
        "wrpo.objective=ppo",
        "prompts.sft_share=2",
        "run=a/b",
        "run=../up",
        "seed=-1",
        "sources.letters.sampling.top_p=7",
        "target.dtype=float8",
        "sample.responses=2.5",
        "wrpo.global_batch_size=0",
        "sample.engine.enforce_eager=perhaps",
    ],
)
def test_value_outside_its_range_is_refused(tmp_path: Path, override: str) -> None:
    key = override.partition("=")[0]
    assert f'command line "{override}": {key}: ' in refusal(tmp_path, "", override)


SECRET = "sk-very-secret-0123456789"


@pytest.mark.parametrize("where", ["sample", "sources.letters"])
@pytest.mark.parametrize(
    "line",
    [
        f"api_key_env: {SECRET}",
        f"endpoints: [http://user:{SECRET}@host/v1]",
        f"endpoints: ['http://host/v1?key={SECRET}']",
        f"api_key: {SECRET}",
    ],
)
def test_a_recipe_never_holds_an_api_key_and_the_refusal_does_not_repeat_it(
    tmp_path: Path, where: str, line: str
) -> None:
    extra = f"sample:\n  engine:\n    backend: openai\n    {line}\n"
    if where != "sample":
        engine = f"    model: hub/letters\n    engine:\n      {line}\n"
        path = write_recipe(tmp_path, MINIMAL.replace("    model: hub/letters\n", engine))
        with pytest.raises(RecipeError) as caught:
            load_recipe(path)
        message = str(caught.value)
    else:
        message = refusal(tmp_path, extra)
    assert "api_key_env" in message or "environment variable" in message
    assert SECRET not in message


def test_endpoints_lose_a_trailing_slash(tmp_path: Path) -> None:
    urls = "[http://a:1/v1/, https://b.c/v1]"
    recipe = tiny_recipe(tmp_path, f"sample.engine={{backend: openai, endpoints: {urls}}}")
    assert recipe.sample.engine.endpoints == ["http://a:1/v1", "https://b.c/v1"]


def test_pairs_do_not_fit_wrpo(tmp_path: Path) -> None:
    message = refusal(tmp_path, "", "wrpo.data=pairs")
    assert 'objective "wrpo" reads data "triples", not "pairs"' in message


def test_several_problems_are_told_at_once(tmp_path: Path) -> None:
    message = refusal(tmp_path, "", "wrpo.betta=1", "sample.responses=0")
    assert "wrpo.betta" in message
    assert "sample.responses" in message


def test_source_may_not_be_called_target(tmp_path: Path) -> None:
    assert "name of the pipeline itself" in refusal(tmp_path, "", "sources.target.model=hub/x")


def test_source_name_may_not_leave_the_folder(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, MINIMAL.replace("letters:", "../letters:"))
    with pytest.raises(RecipeError, match="is no name"):
        load_recipe(path)


def test_source_and_arm_may_not_share_a_name(tmp_path: Path) -> None:
    assert "both a source and an arm" in refusal(tmp_path, "", "arms.letters.objective=dpo")


def test_answer_pattern_needs_its_group(tmp_path: Path) -> None:
    message = refusal(tmp_path, "", "rewards.check={type: answer, pattern: '.*'}")
    assert "rewards.check.pattern: must hold a group named answer" in message


def test_armorm_is_a_reward_that_runs_no_code_of_its_checkpoint(tmp_path: Path) -> None:
    given = "{type: armorm, model: RLHFlow/ArmoRM-Llama3-8B-v0.1"
    reward = load(tmp_path, "", f"rewards.armorm={given}}}").rewards["armorm"]
    assert reward.type == "armorm" and reward.dtype == "bfloat16"
    message = refusal(tmp_path, "", f"rewards.armorm={given}, trust_remote_code: true}}")
    assert "rewards.armorm.trust_remote_code: unknown key" in message


def test_reward_of_unknown_type_lists_the_types(tmp_path: Path) -> None:
    message = refusal(tmp_path, "", "rewards.rm.type=clasifier")
    assert "rewards.rm: " in message
    assert 'did you mean "classifier"?' in message


# --- YAML itself ---


def test_repeated_key_is_refused_with_both_lines(tmp_path: Path) -> None:
    message = refusal(tmp_path, "seed: 1\nseed: 2\n")
    first = line_of(tmp_path, "seed: 1")
    assert f':{first + 1}: "seed" is written twice, first on line {first}' in message


def test_broken_yaml_is_refused_with_its_line(tmp_path: Path) -> None:
    message = refusal(tmp_path, "wrpo: [1, 2\nseed: 3\n")
    assert "FOLDER/recipe.yaml:" in message
    assert "not valid YAML" in message


def test_a_list_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="a recipe is a mapping"):
        load_recipe(write_recipe(tmp_path, "- run: a\n"))


def test_an_empty_file_lists_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="is required and not given"):
        load_recipe(write_recipe(tmp_path, ""))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"nowhere\.yaml: no such recipe file"):
        load_recipe(tmp_path / "nowhere.yaml")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_bytes(b"run: \xff\xfe")
    with pytest.raises(RecipeError, match="UTF-8"):
        load_recipe(tmp_path / "recipe.yaml")


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").touch()
    with pytest.raises(RecipeError, match=r"is a folder.*in this folder are: mine\.yaml"):
        load_recipe(tmp_path)


@pytest.mark.parametrize("given", [".", "..", "/", "recipes", "recipes/", "./recipes"])
def test_a_folder_in_the_place_of_a_recipe_stays_one(given: str) -> None:
    with pytest.raises(RecipeError, match="is a folder"):
        load_recipe(find_recipe(Path(given)))


def test_python_tags_are_not_run(tmp_path: Path) -> None:
    text = "seed: !!python/object/apply:os.getpid []\n"
    assert "YAML tag" in refusal(tmp_path, text)


def test_anchors_and_merge_keys_work(tmp_path: Path) -> None:
    extra = """\
        sft:
          train: &shared
            learning_rate: 1e-5
            logging_steps: 64
        wrpo:
          train:
            <<: *shared
            logging_steps: 32
        """
    recipe = load(tmp_path, extra)
    assert recipe.wrpo.train == {"learning_rate": 1e-5, "logging_steps": 32}


# --- overrides ---


def test_override_changes_one_field(tmp_path: Path) -> None:
    recipe = load(tmp_path, "", "wrpo.alpha.end=0.2", "run=alpha02")
    assert (recipe.wrpo.alpha.end, recipe.run) == (0.2, "alpha02")


def test_override_value_is_yaml(tmp_path: Path) -> None:
    recipe = load(tmp_path, "", "wrpo.lora={r: 4, target_modules: [q_proj]}", "seed=7")
    assert recipe.wrpo.lora is not None
    assert recipe.wrpo.lora.target_modules == ["q_proj"]
    assert recipe.seed == 7


def test_override_value_may_hold_equals_signs(tmp_path: Path) -> None:
    recipe = load(tmp_path, "", r"rewards.check={type: answer, pattern: 'x=(?P<answer>\d+)'}")
    assert recipe.rewards["check"].pattern == r"x=(?P<answer>\d+)"


def test_empty_override_means_null(tmp_path: Path) -> None:
    assert load(tmp_path, "eval:\n  limit: 5\n", "eval.limit=").eval.limit is None


def test_override_of_null_section_makes_it(tmp_path: Path) -> None:
    recipe = load(tmp_path, "wrpo:\n  lora:\n", "wrpo.lora.r=2")
    assert recipe.wrpo.lora is not None
    assert recipe.wrpo.lora.r == 2


def test_later_override_wins(tmp_path: Path) -> None:
    assert load(tmp_path, "", "seed=1", "seed=2").seed == 2


@pytest.mark.parametrize("item", ["--responses=8", "sample", "=3", "sample..responses=3", "-x"])
def test_what_is_no_override_is_refused_with_an_example(tmp_path: Path, item: str) -> None:
    message = refusal(tmp_path, "", item)
    assert f'"{item}" is not key=value' in message
    assert "wrpo.alpha.end=0.2" in message


def test_a_wrong_override_is_blamed_on_the_command_line(tmp_path: Path) -> None:
    message = refusal(tmp_path, "sample:\n  responses: 4\n", "sample.responses=none")
    assert message.startswith('command line "sample.responses=none": sample.responses:')


def test_override_cannot_name_a_parent(tmp_path: Path) -> None:
    assert "extends" in refusal(tmp_path, "", "extends=other.yaml")


# --- extends ---


def test_child_wins_over_parent_and_parent_over_default(tmp_path: Path) -> None:
    write_recipe(tmp_path, MINIMAL + "seed: 1\nsample:\n  responses: 3\n", name="parent.yaml")
    child = write_recipe(tmp_path, "extends: parent.yaml\nrun: child\nseed: 2\n")
    recipe = load_recipe(child)
    assert (recipe.run, recipe.seed, recipe.sample.responses) == ("child", 2, 3)
    assert recipe.sample.top_p == 0.95


def test_command_line_wins_over_child(tmp_path: Path) -> None:
    write_recipe(tmp_path, MINIMAL, name="parent.yaml")
    child = write_recipe(tmp_path, "extends: parent.yaml\nseed: 2\n")
    assert load_recipe(child, ["seed=3"]).seed == 3


def test_mappings_of_parent_and_child_merge_key_by_key(tmp_path: Path) -> None:
    write_recipe(
        tmp_path, MINIMAL + "sft:\n  train: {max_length: 8, packing: true}\n", name="p.yaml"
    )
    child = write_recipe(tmp_path, "extends: p.yaml\nsft:\n  train: {max_length: 16}\n")
    assert load_recipe(child).sft.train == {"max_length": 16, "packing": True}


def test_grandparents_work_and_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    write_recipe(tmp_path, MINIMAL, name="base.yaml")
    write_recipe(tmp_path, "extends: ../base.yaml\nseed: 5\n", name="a/middle.yaml")
    child = write_recipe(tmp_path, "extends: a/middle.yaml\nrun: child\n")
    recipe = load_recipe(child)
    assert (recipe.run, recipe.seed) == ("child", 5)


def test_error_in_the_parent_names_the_parent(tmp_path: Path) -> None:
    write_recipe(tmp_path, MINIMAL + "sample:\n  responses: 0\n", name="parent.yaml")
    child = write_recipe(tmp_path, "extends: parent.yaml\nrun: child\n")
    line = MINIMAL.count("\n") + 2
    with pytest.raises(RecipeError, match=rf"parent\.yaml:{line}: sample\.responses"):
        load_recipe(child)


def test_circular_extends_is_refused(tmp_path: Path) -> None:
    write_recipe(tmp_path, "extends: b.yaml\n", name="a.yaml")
    write_recipe(tmp_path, "extends: a.yaml\n", name="b.yaml")
    with pytest.raises(RecipeError, match="in a circle"):
        load_recipe(tmp_path / "a.yaml")


def test_extending_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="in a circle"):
        load_recipe(write_recipe(tmp_path, "extends: recipe.yaml\n"))


def test_missing_parent_is_refused_with_the_line(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, "run: a\nextends: gone.yaml\n")
    with pytest.raises(RecipeError, match=r"recipe\.yaml:2: extends: no file .*gone\.yaml"):
        load_recipe(path)


def test_two_parents_are_refused(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, "extends: [a.yaml, b.yaml]\n")
    with pytest.raises(RecipeError, match="names one parent file"):
        load_recipe(path)


# --- sources by name ---


def by_name(folder: Path, sources: str, *overrides: str) -> Recipe:
    for name in ("alpha", "beta"):
        text = f"model: hub/{name}\nsampling:\n  top_p: 0.5\n  temperature: 0.1\n"
        write_recipe(folder, text, name=f"sources/{name}.yaml")
    head, tail = MINIMAL.split("sources:")[0], "target:" + MINIMAL.split("target:")[1]
    return load_recipe(write_recipe(folder, f"{head}{sources}\n{tail}"), list(overrides))


def test_list_of_names_reads_the_source_files_in_order(tmp_path: Path) -> None:
    recipe = by_name(tmp_path, "sources: [beta, alpha]")
    assert {name: model.model for name, model in recipe.sources.items()} == {
        "beta": "hub/beta",
        "alpha": "hub/alpha",
    }
    assert list(recipe.sources) == ["beta", "alpha"]


def test_own_name_for_a_source_file(tmp_path: Path) -> None:
    recipe = by_name(tmp_path, "sources: {first: alpha}")
    assert recipe.sources["first"].model == "hub/alpha"


def test_source_file_with_changes(tmp_path: Path) -> None:
    recipe = by_name(tmp_path, "sources: {alpha: {sampling: {top_p: 0.9}}}")
    sampling = recipe.sources["alpha"].sampling
    assert (sampling.top_p, sampling.temperature) == (0.9, 0.1)


def test_command_line_changes_a_source_of_a_list(tmp_path: Path) -> None:
    recipe = by_name(tmp_path, "sources: {alpha: , beta: }", "sources.alpha.sampling.top_p=0.9")
    assert recipe.sources["alpha"].sampling.top_p == 0.9
    assert recipe.sources["beta"].sampling.top_p == 0.5


def test_command_line_changes_one_source_and_keeps_the_others(tmp_path: Path) -> None:
    recipe = by_name(tmp_path, "sources: [alpha, beta]", "sources.beta.engine.max_num_seqs=7")
    assert list(recipe.sources) == ["alpha", "beta"]
    assert recipe.sources["beta"].model == "hub/beta"
    assert recipe.sources["beta"].engine.max_num_seqs == 7


def test_child_changes_one_source_of_the_parents_list(tmp_path: Path) -> None:
    by_name(tmp_path, "sources: [alpha, beta]")
    text = "extends: recipe.yaml\nsources: {alpha: {revision: v2}}\n"
    sources = load_recipe(write_recipe(tmp_path, text, name="child.yaml")).sources
    assert {name: model.revision for name, model in sources.items()} == {
        "alpha": "v2",
        "beta": None,
    }


def test_childs_list_replaces_the_parents(tmp_path: Path) -> None:
    by_name(tmp_path, "sources: [alpha, beta]")
    child = write_recipe(tmp_path, "extends: recipe.yaml\nsources: [beta]\n", name="child.yaml")
    assert list(load_recipe(child).sources) == ["beta"]


def test_command_line_replaces_the_list(tmp_path: Path) -> None:
    assert list(by_name(tmp_path, "sources: [alpha]", "sources=[beta]").sources) == ["beta"]


def test_unknown_source_name_names_the_neighbour(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match='unknown source "alfa"; did you mean "alpha"'):
        by_name(tmp_path, "sources: [alfa]")


def test_source_listed_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match='"alpha" is listed twice'):
        by_name(tmp_path, "sources: [alpha, alpha]")


def test_error_in_a_source_file_names_that_file(tmp_path: Path) -> None:
    write_recipe(tmp_path, "model: hub/x\nfoldsystem: true\n", name="sources/wrong.yaml")
    with pytest.raises(RecipeError, match=r"sources/wrong\.yaml:2: sources\.wrong\.foldsystem"):
        by_name(tmp_path, "sources: [wrong]")


# --- TRL keys ---


def test_misspelt_training_key_is_refused_before_anything_loads(tmp_path: Path) -> None:
    message = refusal(tmp_path, "wrpo:\n  train:\n    learning_rat: 1e-6\n")
    assert f":{line_of(tmp_path, 'learning_rat')}: wrpo.train.learning_rat: is not a key" in message
    assert 'did you mean "learning_rate"?' in message


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("gradient_accumulation_steps", "global_batch_size"),
        ("per_device_train_batch_size", "engine.per_device_batch_size"),
        ("beta", "wrpo.beta"),
        ("seed", "top of the recipe"),
        ("output_dir", "run directory"),
        ("precompute_ref_log_probs", "wrpo.reference"),
        ("balance_micro_batches", "wrpo.engine.balance_micro_batches"),
    ],
)
def test_key_that_is_stated_elsewhere_says_where(tmp_path: Path, key: str, hint: str) -> None:
    message = refusal(tmp_path, "", f"wrpo.train.{key}=1")
    assert f"wrpo.train.{key}: does not belong here" in message
    assert hint in message


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("torch_dtype", "target.dtype"),
        ("evaluation_strategy", "eval_strategy"),
        ("warmup_ratio", "warmup_steps"),
        ("max_seq_length", "max_length"),
    ],
)
def test_key_of_older_releases_names_its_successor(tmp_path: Path, key: str, hint: str) -> None:
    message = refusal(tmp_path, "", f"sft.train.{key}=1")
    assert f"sft.train.{key}: " in message
    assert hint in message


@pytest.mark.parametrize(
    "override",
    [
        "wrpo.train.learning_rate=fast",
        "wrpo.train.learning_rate=true",
        "sft.train.max_length=12.5",
        "wrpo.train.bf16=1",
        "wrpo.train.num_train_epochs=[1]",
        "sft.train.packing='yes'",
        "wrpo.train.max_steps=true",
    ],
)
def test_training_value_of_a_wrong_type_is_refused(tmp_path: Path, override: str) -> None:
    key = override.partition("=")[0]
    assert f"{key}: must be " in refusal(tmp_path, "", override)


def test_training_values_of_right_types_pass(tmp_path: Path) -> None:
    extra = """\
        wrpo:
          train:
            learning_rate: 3e-7
            warmup_steps: 0.1
            num_train_epochs: 1
            max_grad_norm: 1
            hub_token: null
            bf16: true
            save_strategy: "no"
            gradient_checkpointing_kwargs: {use_reentrant: false}
            report_to: [wandb]
        """
    assert load(tmp_path, extra).wrpo.train["warmup_steps"] == 0.1


def test_fields_read_from_source_are_those_of_the_real_configs() -> None:
    import dataclasses

    from trl import SFTConfig

    from wrpo.config import WRPOConfig
    from wrpo.recipe.foreign_keys import config_fields

    for name, config in (("SFTConfig", SFTConfig), ("WRPOConfig", WRPOConfig)):
        real = {field.name for field in dataclasses.fields(config) if field.init}
        assert real <= set(config_fields(name)), name
        assert {key for key in config_fields(name) if not key.startswith("_")} <= {
            field.name for field in dataclasses.fields(config)
        }, name


# --- arms ---

ARMS = """\
wrpo:
  beta: 0.5
  train: {learning_rate: 1e-6, logging_steps: 64}
arms:
  dpo: {objective: dpo}
  slow: {train: {learning_rate: 1e-7}}
  more-sft: {objective: sft, train: {learning_rate: 2e-5}}
"""


def test_arm_is_wrpo_with_its_differences(tmp_path: Path) -> None:
    recipe = load(tmp_path, ARMS)
    slow = preference(recipe, "slow")
    assert slow.train == {"learning_rate": 1e-7, "logging_steps": 64}
    assert (slow.objective, slow.beta) == ("wrpo", 0.5)
    assert preference(recipe, "dpo").objective == "dpo"


def test_wrpo_is_an_arm_too(tmp_path: Path) -> None:
    recipe = load(tmp_path, ARMS)
    assert preference(recipe, "wrpo") is recipe.wrpo


def test_unknown_arm_names_the_neighbour(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match='no arm "slwo" in recipe tiny; did you mean "slow"'):
        preference(load(tmp_path, ARMS), "slwo")


def test_unknown_key_in_an_arm_is_refused_with_its_line(tmp_path: Path) -> None:
    message = refusal(tmp_path, "arms:\n  dpo:\n    objektive: dpo\n")
    line = line_of(tmp_path, "objektive")
    assert f':{line}: arms.dpo.objektive: unknown key; did you mean "objective"?' in message


@pytest.mark.parametrize("section", ["wrpo", "arms.dpo"])
def test_a_wrong_value_is_shown_in_an_arm_too(tmp_path: Path, section: str) -> None:
    message = refusal(tmp_path, "", f"{section}.beta=-1")
    assert f": {section}.beta: input should be greater than 0, not -1" in message


def test_wrong_training_key_in_an_arm_is_blamed_on_the_arm(tmp_path: Path) -> None:
    message = refusal(tmp_path, "arms:\n  dpo:\n    train:\n      learning_rat: 1\n")
    line = line_of(tmp_path, "learning_rat")
    assert f":{line}: arms.dpo.train.learning_rat: is not a key of WRPOConfig" in message


def test_arm_of_objective_sft_takes_sft_keys(tmp_path: Path) -> None:
    extra = "arms:\n  sft-more: {objective: sft, train: {packing: true}}\n"
    assert preference(load(tmp_path, extra), "sft-more").train == {"packing": True}
    extra = "arms:\n  dpo: {objective: dpo, train: {packing: true}}\n"
    assert "packing: is not a key of WRPOConfig" in refusal(tmp_path, extra)


def test_arm_of_objective_sft_leaves_keys_of_wrpo_behind(tmp_path: Path) -> None:
    extra = """\
        wrpo: {train: {disable_dropout: true, learning_rate: 1e-6}}
        arms: {more-sft: {objective: sft}}
        """
    assert preference(load(tmp_path, extra), "more-sft").train == {"learning_rate": 1e-6}


def test_arm_may_not_be_called_like_a_stage(tmp_path: Path) -> None:
    assert "name of the pipeline itself" in refusal(tmp_path, "arms:\n  sft: {objective: sft}\n")


def test_arm_may_not_have_the_folder_of_something_else(tmp_path: Path) -> None:
    # Whatever the pipeline puts beside the folders of the arms.
    extra = "eval: {tasks: [t], judged: {mt_bench: {judge: j}}}\n"
    extra += "judges: {j: {model: m, engine: {endpoints: ['http://h:1/v1']}}}\n"
    taken = {Path(name).parts[0] for name in Pipeline(load(tmp_path, extra)).stages}
    for name in sorted(taken - {"sft", "wrpo"} | {"logs"}):
        assert "another folder of the run" in refusal(tmp_path, f"arms:\n  {name}: {{}}\n"), name


def test_all_means_every_model_and_is_no_name_of_one(tmp_path: Path) -> None:
    assert "name of the pipeline itself" in refusal(tmp_path, "arms:\n  all: {}\n")


def test_a_judged_benchmark_has_its_own_fields_and_others_are_refused(
    tmp_path: Path,
) -> None:
    extra = "judges: {j: {model: m, endpoints: ['http://h:1/v1']}}\neval:\n  judged:\n    "
    wrong = refusal(tmp_path, f"{extra}mt_bench: {{judge: j, logprob: false}}\n")
    assert "eval.judged.mt_bench.logprob: unknown key; known: benchmark, decoding, judge" in wrong
    wrong = refusal(tmp_path, f"{extra}mt_bench: {{judge: j, logprobs: false}}\n")
    assert "logprobs: benchmark mt_bench has no logprobs; alpaca_eval_2 has" in wrong
    wrong = refusal(tmp_path, f"{extra}mtbench: {{judge: j}}\n")
    assert 'eval.judged.mtbench: unknown key; did you mean "mt_bench"?' in wrong
    assert "recipe.yaml:" in wrong


# --- round trip ---


def test_resolved_recipe_loads_back_to_itself(tmp_path: Path) -> None:
    recipe = load(tmp_path, ARMS, "wrpo.lora.r=4", "sample.temperature=1e-3")
    path = write_recipe(tmp_path, dump_recipe(recipe), name="resolved.yaml")
    assert load_recipe(path) == recipe


def test_saved_recipe_loads_back_and_leaves_no_partial_file(tmp_path: Path) -> None:
    recipe = load(tmp_path, ARMS)
    save_recipe(recipe, tmp_path / "run" / "recipe.yaml")
    assert load_recipe(tmp_path / "run" / "recipe.yaml") == recipe
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["recipe.yaml"]


TEXTS = st.text(max_size=12) | st.sampled_from(
    ["no", "5e-7", "1e5", "null", "~", "0x1F", "1_0", ""]
)
FLOATS = st.floats(min_value=1e-12, max_value=1e6)


# Shrinking would take minutes; the two changed texts are short as they are.
@settings(max_examples=25, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@example(column="0E0", pattern="no", beta=1e-12, rate=5e-324, seed=0)
@example(column="\x85t", pattern="a\u2028b", beta=1.0, rate=1.0, seed=0)
@given(column=TEXTS, pattern=TEXTS, beta=FLOATS, rate=FLOATS, seed=st.integers(0, 2**40))
def test_any_recipe_survives_dump_and_load(
    column: str, pattern: str, beta: float, rate: float, seed: int
) -> None:
    tree = parse_yaml(MINIMAL, name="minimal").value
    changes = {
        "seed": seed,
        "prompts": {"datasets": {"world": {"prompt": column, "domain": pattern}}},
        "wrpo": {"beta": beta, "train": {"learning_rate": rate, "run_name": column}},
    }
    recipe = check(Located(merge(tree, changes)))
    assert check(parse_yaml(dump_recipe(recipe), name="dumped")) == recipe


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("max_length=64", "truncation.max_length"),
        ("max_prompt_length=64", "truncation.max_prompt_length"),
        ("max_response_length=64", "truncation.max_response_length"),
        ("truncation=original", "truncation.mode"),
    ],
)
def test_truncation_is_refused_under_train(tmp_path: Path, key: str, place: str) -> None:
    assert f"write `{place}`" in refusal(tmp_path, "", f"wrpo.train.{key}")


def test_lengths_under_logprobs_are_unknown(tmp_path: Path) -> None:
    assert "logprobs.max_length: unknown key" in refusal(tmp_path, "", "logprobs.max_length=64")


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ("{max_length: 64, max_prompt_length: 64}", "leaves no token for a response"),
        ("{mode: original}", "max_prompt_length is not set"),
        ("{mode: original, max_prompt_length: 9, max_response_length: 9}", "leave it out"),
        ("{mode: keep_end}", "mode"),
    ],
)
def test_truncation_that_cannot_work_is_refused_at_its_line(
    tmp_path: Path, section: str, problem: str
) -> None:
    message = refusal(tmp_path, f"truncation: {section}\n")
    assert f":{line_of(tmp_path, 'truncation:')}: truncation" in message
    assert problem in message


CODE_AND_MATHS = "prompts.datasets={c: {path: c.jsonl}, m: {path: m.jsonl, domain_name: maths}}"


def test_the_verifier_of_a_domain_is_a_reward_that_covers_it(tmp_path: Path) -> None:
    check = "rewards.check={type: math, domains: [maths]}"
    rules = "build.domains={%s: {verifier: %s}}"
    good = load(tmp_path, "", CODE_AND_MATHS, check, rules % ("maths", "check"))
    assert good.build.domains["maths"].verifier == "check"
    message = refusal(tmp_path, "", CODE_AND_MATHS, check, rules % ("c", "check"))
    assert "reward check does not cover c; add it to rewards.check.domains" in message
    message = refusal(tmp_path, "", CODE_AND_MATHS, check, rules % ("maths", "chekc"))
    assert 'no reward "chekc"; rewards: rm, check' in message


JUDGES = "judges={strict: {model: m, engine: {endpoints: ['http://host/v1']}}}"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("judge: lax", 'rewards.j.judge: no judge "lax"; judges: strict'),
        ("opponent: nobody", 'rewards.j.opponent: no source "nobody"; sources: letters, numbers'),
        ("samples: 3", "rewards.j.samples: 3 judgements at temperature 0 are equal"),
        ("pattern: '(?P<verdict>x)'", "pattern: must hold a group named rating"),
        ("opponent: letters, pattern: x", "pattern: must hold a group named verdict"),
        ("pattern: '('", "pattern: not a regular expression"),
        ("scale: [3, 3]", "the first must be below the second"),
        ("expected: true", "scale must be whole numbers within 0 to 9, e.g. [1, 9]"),
        ("expected: true, scale: [1, 9], opponent: letters", "expected: goes with neither"),
        ("prompt: nowhere.txt", "prompt: no such file: "),
    ],
)
def test_a_judge_reward_says_what_it_lacks(tmp_path: Path, fields: str, message: str) -> None:
    judge = "" if "judge:" in fields else "judge: strict, "
    assert message in refusal(tmp_path, "", JUDGES, f"rewards.j={{type: judge, {judge}{fields}}}")


def test_the_question_of_a_judge_must_have_its_fields(tmp_path: Path) -> None:
    question = tmp_path / "question.txt"
    question.write_text("{{prompt}} {{response}} {{rubric}}")
    reward = f"rewards.j={{type: judge, judge: strict, prompt: {question}}}"
    message = refusal(tmp_path, "", JUDGES, reward)
    assert "must have the fields ['prompt', 'response']" in message and "rubric" in message
    question.write_text("{{prompt}} {{response}} from {{low}}")
    assert load(tmp_path, "", JUDGES, reward).rewards["j"].template == question.read_text()


@pytest.mark.parametrize(
    "override",
    [
        "sample.domains={math: {responses: 8}}",
        "build.domains={math: {window: false}}",
        "sources.letters.domains=[math]",
        "rewards.rm.domains=[math]",
    ],
)
def test_a_domain_that_no_dataset_has_is_refused_unless_a_column_names_domains(
    tmp_path: Path, override: str
) -> None:
    message = refusal(tmp_path, "", CODE_AND_MATHS, override)
    assert "no dataset of `prompts` has the domain math; domains: c, maths" in message
    load(tmp_path, "", CODE_AND_MATHS, "prompts.datasets.c.domain=kind", override)


def test_a_dataset_has_one_domain_or_a_column_of_them(tmp_path: Path) -> None:
    both = "prompts.datasets.c={path: c.jsonl, domain: kind, domain_name: code}"
    assert "give one of them" in refusal(tmp_path, "", both)


def test_answers_of_a_dataset_need_a_source_name_of_their_own(tmp_path: Path) -> None:
    given = "prompts.datasets.world.responses={column: solution, source: %s}"
    assert load(tmp_path, "", given % "teacher").prompts.datasets["world"].responses
    assert "['letters'] name two sources" in refusal(tmp_path, "", given % "letters")
    assert "name of the pipeline" in refusal(tmp_path, "", given % "target")


def test_a_window_of_pairs_that_holds_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"build\.pairs.*max_gap 0\.05 is below min_gap 0\.2"):
        tiny_recipe(tmp_path, "build.pairs={min_gap: 0.2, max_gap: 0.05}")


def test_a_field_of_another_objective_is_refused_with_those_that_have_it(tmp_path: Path) -> None:
    message = refusal(tmp_path, "", "wrpo.objective=dpo", "wrpo.alpha.end=0.2")
    assert "wrpo.alpha: objective dpo has no alpha; wrpo has" in message
    arm = refusal(tmp_path, "arms:\n  more: {objective: sft, beta: 1.0}\n")
    assert "arms.more.beta: objective sft has no beta; cgpo and dpo and fuserl and wrpo have" in arm


def test_an_unknown_objective_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    assert 'wrpo.objective: there is no "dpoo"; did you mean "dpo"?' in refusal(
        tmp_path, "", "wrpo.objective=dpoo"
    )


def test_an_arm_inherits_the_fields_that_its_objective_has(tmp_path: Path) -> None:
    recipe = load(tmp_path, "arms: {a: {objective: dpo}, b: {objective: sft}}\n", "wrpo.beta=3")
    assert preference(recipe, "a").model_dump()["beta"] == 3
    assert "beta" not in preference(recipe, "b").model_dump()


@pytest.mark.parametrize("gap", ["answer", "answer_a", "answer_b"])
def test_gaps_of_older_judge_questions_are_refused_with_their_new_name(
    tmp_path: Path, gap: str
) -> None:
    question = tmp_path / "question.txt"
    question.write_text(f"{{{{prompt}}}} {{{{{gap}}}}}")
    reward = f"rewards.j={{type: judge, judge: strict, prompt: {question}}}"
    new = gap.replace("answer", "response")
    assert f"{{{{{gap}}}}} is now called {{{{{new}}}}}" in refusal(tmp_path, "", JUDGES, reward)


@pytest.mark.parametrize(
    ("override", "new"),
    [
        ("prompts.datasets.a.answer=gold", "reference_answer"),
        ("prompts.datasets.a.answers={source: s, column: c}", "responses"),
        ("truncation.max_answer_length=9", "max_response_length"),
        ("logprobs.check_answers=4", "check_responses"),
    ],
)
def test_keys_of_older_recipes_are_refused_with_their_new_name(
    tmp_path: Path, override: str, new: str
) -> None:
    message = refusal(tmp_path, "", override)
    assert f'{override.split("=")[0]}: unknown key; its name is now "{new}"' in message

"""The pipeline as data: order, keys, states, and the commands that messages name."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support.recipe_files import tiny_recipe
from wrpo.errors import MissingInputError, RecipeError, StageError
from wrpo.pipeline.evaluation_stages import model_names
from wrpo.pipeline.folder import StageFolder, read_manifest
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.stage import file_digest, model_identity
from wrpo.recipe import Recipe
from wrpo.recipe.resolved import resolved_sampling, sampling_model

ARMS = """\
    arms:
      dpo: {objective: dpo}
      offline: {objective: dpo, data: pairs}
      more-sft: {objective: sft}
    eval:
      tasks: [gsm8k]
    """


def keys(recipe: Recipe) -> dict[str, object]:
    pipeline = Pipeline(recipe)
    return {name: pipeline.key(name) for name in pipeline.stages}


def changed(folder: Path, *overrides: str, extra: str = ARMS) -> set[str]:
    """The stages whose key differs once the overrides are given."""
    before = keys(tiny_recipe(folder, extra=extra))
    after = keys(tiny_recipe(folder, *overrides, extra=extra))
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name]}


def finish(pipeline: Pipeline, name: str) -> Path:
    folder = StageFolder(pipeline.folder(name), pipeline.key(name))
    folder.open()
    folder.finish()
    return folder.path


# --- order ---


def test_every_input_comes_before_the_stage_that_reads_it(tmp_path: Path) -> None:
    pipeline = Pipeline(tiny_recipe(tmp_path, extra=ARMS))
    seen: set[str] = set()
    for name, stage in pipeline.stages.items():
        assert set(stage.inputs) <= seen, name
        seen.add(name)


def test_a_recipe_without_evaluation_has_no_report(tmp_path: Path) -> None:
    assert list(Pipeline(tiny_recipe(tmp_path)).stages) == [
        "prompts",
        "sample/letters",
        "sample/numbers",
        "score/letters",
        "score/numbers",
        "build/sft",
        "sft",
        "sample/target",
        "score/target",
        "build/triples",
        "logprobs/sft/triples",
        "wrpo",
    ]
    stages = list(Pipeline(tiny_recipe(tmp_path, "eval.tasks=[ifeval]")).stages)
    assert stages[-1] == "report" and "eval/wrpo" in stages


def test_pairs_need_no_answers_of_the_target(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, "wrpo.data=pairs", "wrpo.objective=dpo")
    names = Pipeline(recipe).stages
    assert "build/pairs" in names
    assert not {"sample/target", "build/triples"} & set(names)


def test_every_arm_is_trained_and_evaluated(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, extra=ARMS)
    stages = Pipeline(recipe).stages
    assert {"wrpo", "dpo", "offline", "more-sft"} <= set(stages)
    assert {f"eval/{name}" for name in model_names(recipe)} <= set(stages)
    assert stages["report"].inputs == tuple(f"eval/{name}" for name in model_names(recipe))


def test_more_sft_reads_no_reference(tmp_path: Path) -> None:
    stages = Pipeline(tiny_recipe(tmp_path, extra=ARMS)).stages
    assert "logprobs/sft/triples" not in stages["more-sft"].inputs
    assert "logprobs/sft/triples" in stages["dpo"].inputs
    assert "logprobs/sft/pairs" in stages["offline"].inputs


@pytest.mark.parametrize("reference", ["model", "none"])
def test_a_loaded_reference_model_or_none_needs_no_table(tmp_path: Path, reference: str) -> None:
    recipe = tiny_recipe(tmp_path, f"wrpo.reference={reference}")
    assert "logprobs/sft/triples" not in Pipeline(recipe).stages["wrpo"].inputs


def test_a_fused_reference_reads_the_log_probs_of_every_source(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, "wrpo.reference=fused", "wrpo.loss=sigmoid_norm")
    stages = Pipeline(recipe).stages
    tables = [f"logprobs/{model}/triples" for model in ("sft", *recipe.sources)]
    assert set(tables) <= set(stages["wrpo"].inputs)
    assert stages[tables[1]].inputs == ("build/triples",)


def test_consensus_reads_anchors_too(tmp_path: Path) -> None:
    stages = Pipeline(tiny_recipe(tmp_path, "wrpo.objective=cgpo")).stages
    assert "logprobs/sft/anchors" in stages["wrpo"].inputs
    assert stages["logprobs/sft/anchors"].inputs == ("build/triples", "sft")


# --- keys ---


def test_equal_recipes_have_equal_keys(tmp_path: Path) -> None:
    assert changed(tmp_path) == set()


@pytest.mark.parametrize(
    "override",
    [
        "sample.engine.max_num_seqs=3",
        "sample.engine.tensor_parallel_size=2",
        "sources.letters.engine.gpu_memory_utilization=0.5",
        "sources.letters.engine.backend=transformers",
        "sample.engine={backend: openai, endpoints: [http://host:8000/v1]}",
        "rewards.rm.engine.batch_tokens=77",
        "sft.engine.per_device_batch_size=4",
        "wrpo.engine.per_device_batch_size=4",
        "wrpo.engine.balance_micro_batches=false",
        "logprobs.engine.batch_tokens=77",
        "eval.engine.batch_size=3",
        "sample.max_dropped_share=0.9",
        "prompts.max_dropped_share=0.9",
        "run=other",
        "target.parameters_b=8",
    ],
)
def test_what_only_decides_the_speed_changes_no_key(tmp_path: Path, override: str) -> None:
    assert changed(tmp_path, override) == set()


def test_the_model_of_one_source_changes_all_that_follows_from_it(tmp_path: Path) -> None:
    stages = changed(tmp_path, "sources.letters.model=hub/other")
    assert {"sample/letters", "score/letters", "build/sft", "sft", "wrpo", "report"} <= stages
    assert not stages & {"prompts", "sample/numbers", "score/numbers", "eval/numbers"}


def test_the_revision_of_a_source_is_part_of_its_key(tmp_path: Path) -> None:
    assert "sample/letters" in changed(tmp_path, "sources.letters.revision=abc")


def test_the_reward_leaves_the_answers_alone(tmp_path: Path) -> None:
    stages = changed(tmp_path, "rewards.rm.weight=2")
    assert {"score/letters", "score/numbers", "score/target", "build/sft"} <= stages
    assert not stages & {"prompts", "sample/letters", "sample/numbers"}


def test_the_domains_of_a_reward_enter_the_key_only_where_they_are_set(tmp_path: Path) -> None:
    key = Pipeline(tiny_recipe(tmp_path)).key("score/letters")
    assert "domains" not in key["rewards"]["rm"]
    assert "score/letters" in changed(tmp_path, "rewards.rm.domains=[world]")


def test_a_judge_enters_the_key_by_what_decides_its_verdicts(tmp_path: Path) -> None:
    judges = "judges={j: {model: m, engine: {endpoints: ['http://host/v1']}}}"
    reward = "rewards.style={type: judge, judge: j, opponent: numbers}"

    def key(*overrides: str) -> dict[str, object]:
        return Pipeline(tiny_recipe(tmp_path, judges, reward, *overrides)).key("score/letters")

    assert set(key()["inputs"]) == {"prompts", "sample/letters", "sample/numbers"}
    assert key("judges.j.engine.concurrency=2") == key()
    assert key("judges.j.version=v2") != key()
    question = tmp_path / "question.txt"
    found = []
    for words in ("which?", "which one?"):
        question.write_text(f"{words} {{{{prompt}}}} {{{{response_a}}}} {{{{response_b}}}}")
        found.append(key(f"rewards.style.prompt={question}"))
    assert found[0] != found[1] != key()


def test_a_reward_model_enters_the_key_by_its_content(tmp_path: Path) -> None:
    found = []
    for place, text in (("a", "{}"), ("b", '{"num_objectives": 19}')):
        folder = tmp_path / place / "armorm"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(text)
        settings = f"rewards.armorm={{type: armorm, model: {folder}}}"
        key = Pipeline(tiny_recipe(tmp_path, settings)).key("score/letters")
        found.append(key["rewards"]["armorm"]["model"])
    assert all(name.startswith("armorm#") for name in found) and found[0] != found[1]


def test_a_setting_of_preference_training_changes_only_trained_arms(tmp_path: Path) -> None:
    stages = changed(tmp_path, "wrpo.train.learning_rate=1e-3")
    trained = {"wrpo", "dpo", "offline", "more-sft"}
    assert stages == trained | {f"eval/{arm}" for arm in trained} | {"report"}


def test_what_is_said_of_no_domain_and_no_dataset_stays_out_of_the_keys(tmp_path: Path) -> None:
    pipeline = Pipeline(tiny_recipe(tmp_path, extra=ARMS))
    dataset = pipeline.key("prompts")["datasets"]["world"]
    assert dataset.keys() == {
        *("path", "config", "split", "revision"),
        *("prompt", "reference_answer", "domain", "limit"),
    }
    assert pipeline.key("sample/letters").keys() == {"seed", "model", "sampling", "inputs"}
    assert "domains" not in pipeline.key("sample/letters")["sampling"]
    assert pipeline.key("build/sft").keys() == {"inputs"}
    assert pipeline.key("build/pairs").keys() == {"min_gap", "max_gap", "inputs"}


def test_what_is_only_expected_of_a_dataset_changes_no_key(tmp_path: Path) -> None:
    assert changed(tmp_path, "prompts.datasets.world.expected_prompts=9") == set()


def test_a_domain_changes_the_answers_of_the_sources_that_take_it(tmp_path: Path) -> None:
    letters = "sources.letters.domains=[world]"
    assert "sample/numbers" not in changed(tmp_path, letters)
    assert "sample/letters" in changed(tmp_path, letters)
    assert changed(tmp_path, "sample.domains={world: {temperature: 0.8}}") == set()
    own = "sources.letters.sampling.responses=5"
    stages = changed(tmp_path, "sample.domains={world: {responses: 7}}", own)
    assert {"sample/numbers", "sample/target"} <= stages and "sample/letters" not in stages


def test_the_source_wins_over_the_domain_and_the_domain_over_all(tmp_path: Path) -> None:
    recipe = tiny_recipe(
        tmp_path,
        "sample.domains={world: {responses: 8, temperature: 0.1, top_p: 0.5}}",
        "sources.letters.sampling={temperature: 0.7}",
        "sample.target.top_p=0.9",
    )
    fields = ("responses", "temperature", "top_p")
    found = {
        name: tuple(resolved_sampling(recipe, name, "world")[field] for field in fields)
        for name in ("letters", "numbers", "target")
    }
    assert found == {
        "letters": (8, 0.7, 0.5),
        "numbers": (8, 0.1, 0.5),
        "target": (8, 0.1, 0.9),
    }
    assert resolved_sampling(recipe, "numbers", "elsewhere") == resolved_sampling(recipe, "numbers")


GIVEN = "prompts.datasets.world.responses={column: solution, source: teacher}"


def test_answers_of_a_dataset_are_scored_and_built_from_but_not_evaluated(tmp_path: Path) -> None:
    pipeline = Pipeline(tiny_recipe(tmp_path, GIVEN, extra=ARMS))
    assert pipeline["score/teacher"].inputs == ("prompts", "sample/teacher")
    for table in ("sft", "triples", "pairs"):
        assert "score/teacher" in pipeline[f"build/{table}"].inputs
    assert "eval/teacher" not in pipeline.stages


@pytest.mark.parametrize("needs", ["objective: cgpo", "objective: dpo, reference: fused"])
def test_answers_of_a_dataset_have_no_log_probs(tmp_path: Path, needs: str) -> None:
    with pytest.raises(RecipeError, match="dpo needs the log-probs.*teacher has no model.*world"):
        Pipeline(tiny_recipe(tmp_path, GIVEN, f"arms.dpo={{{needs}}}", extra=ARMS))


def test_a_setting_of_one_arm_changes_only_that_arm(tmp_path: Path) -> None:
    assert changed(tmp_path, "arms.dpo.beta=2") == {"dpo", "eval/dpo", "report"}


def test_alpha_changes_only_arms_that_use_it(tmp_path: Path) -> None:
    assert changed(tmp_path, "wrpo.alpha.end=0.5") == {"wrpo", "eval/wrpo", "report"}


def test_the_seed_changes_every_stage_that_draws(tmp_path: Path) -> None:
    stages = changed(tmp_path, "seed=43")
    assert {"prompts", "sample/letters", "sft", "wrpo"} <= stages
    assert "eval/letters" not in stages


@pytest.mark.parametrize(
    ("override", "stage"),
    [
        ("sample.temperature=0.3", "sample/letters"),
        ("sample.target.temperature=0.3", "sample/target"),
        ("sample.chunk_prompts=3", "sample/letters"),
        ("sources.letters.sampling.top_k=3", "sample/letters"),
        ("sources.letters.fold_system=true", "sample/letters"),
        ("sources.letters.body={reasoning_effort: low}", "sample/letters"),
        ("sources.letters.thinking=on", "sample/letters"),
        ("sources.letters.thinking={opened: true}", "sample/letters"),
        ("target.thinking=off", "build/sft"),
        ("target.thinking={chat_template_kwargs: {enable_thinking: false}}", "sft"),
        ("target.thinking=on", "eval/target"),
        ("score.thoughts=true", "score/letters"),
        ("prompts.sft_share=0.5", "prompts"),
        ("rewards.rm.max_tokens=9", "score/letters"),
        ("build.min_gap=0.1", "build/triples"),
        ("build.pairs.max_gap=null", "build/pairs"),
        ("build.unfinished=any", "build/sft"),
        ("build.unfinished=never", "build/pairs"),
        ("build.domains={world: {window: false}}", "build/pairs"),
        ("build.domains={world: {sft_needs_pair: true}}", "build/sft"),
        ("prompts.datasets.world.domain_name=words", "prompts"),
        ("prompts.datasets.world.sft_share=1", "prompts"),
        ("prompts.datasets.world.filters={}", "prompts"),
        ("prompts.datasets.world.max_prompts=9", "prompts"),
        ("sft.train.max_length=9", "sft"),
        ("sft.global_batch_size=9", "sft"),
        ("target.model=hub/other", "sft"),
        ("truncation.max_length=9", "logprobs/sft/triples"),
        ("truncation.max_length=9", "sft"),
        ("truncation.max_length=9", "more-sft"),
        ("wrpo.beta=1", "wrpo"),
        ("wrpo.likelihood.weight=1", "wrpo"),
        ("eval.tasks=[ifeval]", "eval/sft"),
        ("eval.limit=3", "eval/sft"),
    ],
)
def test_what_decides_the_result_is_in_the_key(tmp_path: Path, override: str, stage: str) -> None:
    assert stage in changed(tmp_path, override)


@pytest.mark.parametrize(
    "override",
    ["sources.letters.thinking=auto", "score.thoughts=false", "build.unfinished=rejected"],
)
def test_what_is_as_it_is_by_default_changes_no_key(tmp_path: Path, override: str) -> None:
    assert changed(tmp_path, override) == set()


def test_truncation_changes_no_table_and_only_arms_that_cut_by_it(tmp_path: Path) -> None:
    stages = changed(tmp_path, "truncation.max_response_length=9")
    assert {"logprobs/sft/triples", "wrpo", "dpo"} <= stages
    assert not stages & {"sft", "build/sft", "build/triples", "build/pairs", "more-sft"}


def test_the_length_of_sft_may_be_its_own(tmp_path: Path) -> None:
    own = "sft.train.max_length=64"
    before, after = (
        keys(tiny_recipe(tmp_path, own, f"truncation.max_length={length}")) for length in (8, 9)
    )
    assert before["sft"] == after["sft"]
    assert before["logprobs/sft/triples"] != after["logprobs/sft/triples"]


def test_files_count_by_content_not_by_name(tmp_path: Path) -> None:
    template = tmp_path / "chat.jinja"
    template.write_text("one")
    before = keys(tiny_recipe(tmp_path, f"target.chat_template={template}"))
    template.write_text("two")
    after = keys(tiny_recipe(tmp_path, f"target.chat_template={template}"))
    assert before["sft"] != after["sft"]


def test_an_edited_prompt_file_changes_the_key(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    override = f"prompts.datasets.world.path={path}"
    path.write_text('{"prompt": "a"}\n')
    before = keys(tiny_recipe(tmp_path, override))
    path.write_text('{"prompt": "b"}\n')
    assert keys(tiny_recipe(tmp_path, override))["prompts"] != before["prompts"]


# --- states ---


def test_states_follow_the_work(tmp_path: Path) -> None:
    pipeline = Pipeline(tiny_recipe(tmp_path))
    assert pipeline.state("prompts") == "missing"
    StageFolder(pipeline.folder("prompts"), pipeline.key("prompts")).open()
    assert pipeline.state("prompts") == "partial"
    finish(pipeline, "prompts")
    assert pipeline.state("prompts") == "done"


def test_a_stage_of_other_settings_is_stale(tmp_path: Path) -> None:
    finish(Pipeline(tiny_recipe(tmp_path)), "prompts")
    assert Pipeline(tiny_recipe(tmp_path, "seed=1")).state("prompts") == "stale"


def test_a_change_upstream_makes_finished_work_below_stale(tmp_path: Path) -> None:
    pipeline = Pipeline(tiny_recipe(tmp_path))
    for name in pipeline.stages:
        finish(pipeline, name)
    later = Pipeline(tiny_recipe(tmp_path, "sources.letters.model=hub/other"))
    assert later.state("sample/numbers") == "done"
    assert later.state("wrpo") == "stale"


def test_finished_gives_the_folder(tmp_path: Path) -> None:
    pipeline = Pipeline(tiny_recipe(tmp_path))
    path = finish(pipeline, "prompts")
    assert pipeline.finished("prompts") == path == tmp_path / "runs" / "tiny" / "prompts"


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("prompts", "python -m data_construction.prompts --recipe"),
        ("sample/letters", "python -m data_construction.sample --source letters --recipe"),
        ("score/target", "python -m data_construction.score --source target --recipe"),
        ("build/triples", "python -m data_construction.build --table triples --recipe"),
        ("sft", "python -m wrpo.train_sft --recipe"),
        (
            "logprobs/sft/triples",
            "python -m data_construction.logprobs --model sft --rows triples --recipe",
        ),
        ("wrpo", "python -m wrpo.train --arm wrpo --recipe"),
    ],
)
def test_a_missing_input_names_the_command_that_makes_it(
    tmp_path: Path, name: str, command: str
) -> None:
    pipeline = Pipeline(tiny_recipe(tmp_path))
    with pytest.raises(MissingInputError, match="which is not there") as caught:
        pipeline.finished(name)
    assert command in str(caught.value)


def test_a_partial_input_is_not_read(tmp_path: Path) -> None:
    pipeline = Pipeline(tiny_recipe(tmp_path))
    StageFolder(pipeline.folder("prompts"), pipeline.key("prompts")).open()
    with pytest.raises(MissingInputError, match="which is not finished"):
        pipeline.finished("prompts")


def test_a_stale_input_is_refused_with_the_difference(tmp_path: Path) -> None:
    finish(Pipeline(tiny_recipe(tmp_path)), "prompts")
    with pytest.raises(StageError, match="seed: 42 -> 1"):
        Pipeline(tiny_recipe(tmp_path, "seed=1")).finished("prompts")


# --- reuse ---


def test_another_runs_finished_stage_of_the_same_key_is_reused(tmp_path: Path) -> None:
    path = finish(Pipeline(tiny_recipe(tmp_path)), "prompts")
    later = Pipeline(tiny_recipe(tmp_path, "run=second", "reuse=tiny", "wrpo.beta=1"))
    assert later.state("prompts") == "done"
    assert later.finished("prompts") == path
    assert read_manifest(later.folder("prompts")) is None


@pytest.mark.parametrize("other", ["seed=1", "reuse=nowhere"])
def test_nothing_else_is_reused(tmp_path: Path, other: str) -> None:
    finish(Pipeline(tiny_recipe(tmp_path)), "prompts")
    later = Pipeline(tiny_recipe(tmp_path, "run=second", "reuse=tiny", other))
    assert later.state("prompts") == "missing"


def test_an_unfinished_stage_is_not_reused(tmp_path: Path) -> None:
    first = Pipeline(tiny_recipe(tmp_path))
    StageFolder(first.folder("prompts"), first.key("prompts")).open()
    assert Pipeline(tiny_recipe(tmp_path, "run=second", "reuse=tiny")).state("prompts") == "missing"


# --- sampling of one source ---


def test_a_sources_sampling_wins_over_the_common_one(tmp_path: Path) -> None:
    recipe = tiny_recipe(
        tmp_path, "sources.letters.sampling.top_p=0.5", "sample.target.temperature=0.3"
    )
    assert resolved_sampling(recipe, "letters")["top_p"] == 0.5
    assert resolved_sampling(recipe, "numbers")["top_p"] == 0.95
    assert resolved_sampling(recipe, "target")["temperature"] == 0.3
    assert resolved_sampling(recipe, "letters")["temperature"] == 0.8


def test_greedy_sampling_of_one_source_survives(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, "sources.letters.sampling.temperature=0")
    assert resolved_sampling(recipe, "letters")["temperature"] == 0.0


def test_an_unknown_source_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="known: letters, numbers, target"):
        sampling_model(tiny_recipe(tmp_path), "words")


# --- identity of models and files ---


def folder_of(path: Path, content: bytes = b"weights") -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text("{}")
    (path / "model.safetensors").write_bytes(content)
    return path


def test_a_hub_model_is_its_name_and_revision() -> None:
    assert model_identity("org/name") == "org/name@main"
    assert model_identity("org/name", "abc") == "org/name@abc"


def test_a_copied_folder_is_the_same_model(tmp_path: Path) -> None:
    first = model_identity(str(folder_of(tmp_path / "a" / "model")))
    assert first == model_identity(str(folder_of(tmp_path / "b" / "model")))
    assert first != model_identity(str(folder_of(tmp_path / "c" / "model", b"others!")))


def write_zeros(path: Path, size: int) -> None:
    with path.open("wb") as handle:
        handle.truncate(size)


def flip(path: Path, at: int, length: int) -> None:
    with path.open("r+b") as handle:
        handle.seek(at)
        handle.write(b"\x01" * length)


@pytest.mark.parametrize("at", [0, 2_000_000, 2_999_999])
def test_one_byte_anywhere_in_a_small_file_shows(tmp_path: Path, at: int) -> None:
    path = tmp_path / "prompts.jsonl"
    write_zeros(path, 3_000_000)
    before = file_digest(path)
    flip(path, at, 1)
    assert file_digest(path) != before


@pytest.mark.parametrize("share", [0.0, 0.37, 0.995])
def test_one_changed_tensor_in_a_large_file_shows(tmp_path: Path, share: float) -> None:
    path = tmp_path / "model.safetensors"
    size = 1 << 30
    write_zeros(path, size)
    before = file_digest(path)
    flip(path, int(size * share), size // 250)
    assert file_digest(path) != before


def test_a_longer_file_is_another_file(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_zeros(path, 1000)
    before = file_digest(path)
    write_zeros(path, 1001)
    assert file_digest(path) != before


def test_planning_a_large_recipe_is_quick(tmp_path: Path) -> None:
    arms = "\n".join(f"  arm{number}: {{objective: dpo}}" for number in range(10))
    recipe = tiny_recipe(tmp_path, extra=f"arms:\n{arms}\neval:\n  tasks: [gsm8k]\n")
    pipeline = Pipeline(recipe)
    began = time.process_time()
    assert {pipeline.state(name) for name in pipeline.stages} == {"missing"}
    assert time.process_time() - began < 2.0

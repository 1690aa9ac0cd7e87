"""The files under recipes/: all of them load, and the paper's run has the paper's numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.support.recipe_files import MINIMAL, write_recipe
from wrpo.pipeline.pipeline import Pipeline
from wrpo.recipe import Recipe, dump_recipe, load_recipe, preference
from wrpo.recipe.load import check
from wrpo.recipe.resolved import resolved_sampling
from wrpo.recipe.sampling import Model
from wrpo.recipe.yaml_source import parse_yaml, read_yaml

RECIPES = Path(__file__).parents[2] / "recipes"
FUSECHAT3 = sorted(set((RECIPES / "fusechat3").glob("*.yaml")) - {RECIPES / "fusechat3/base.yaml"})
ONE_GPU = sorted((RECIPES / "one-gpu").glob("*.yaml"))
RUNS = [
    *sorted(set(RECIPES.glob("*.yaml")) - {RECIPES / "throughput.yaml"}),
    *FUSECHAT3,
    *ONE_GPU,
]
SOURCES = sorted((RECIPES / "sources").glob("*.yaml"))
ACCELERATE = sorted((RECIPES / "accelerate").glob("*.yaml"))


def name_of(path: Path) -> str:
    return path.stem


@pytest.fixture(scope="module")
def paper() -> Recipe:
    return load_recipe(RECIPES / "llama3-8b-wrpo.yaml")


@pytest.mark.parametrize("path", RUNS, ids=name_of)
def test_every_recipe_loads_plans_and_survives_a_round_trip(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.run == path.stem
    assert Pipeline(recipe).stages
    assert check(parse_yaml(dump_recipe(recipe), name="resolved")) == recipe


@pytest.mark.parametrize("path", RUNS, ids=name_of)
def test_every_file_that_a_recipe_names_is_there(path: Path) -> None:
    recipe = load_recipe(path)
    arms = [preference(recipe, arm) for arm in ("wrpo", *recipe.arms)]
    for engine in (recipe.sft.engine, *(arm.engine for arm in arms)):
        if engine.accelerate is not None:
            assert (RECIPES.parent / engine.accelerate).is_file()


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_every_source_is_a_model_of_the_hub(path: Path) -> None:
    model = Model.model_validate(read_yaml(path).value)
    assert model.model.count("/") == 1
    assert model.parameters_b is not None


def test_a_recipe_elsewhere_can_name_every_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(RECIPES.parent)
    names = [path.stem for path in SOURCES]
    head, tail = MINIMAL.split("sources:")[0], "target:" + MINIMAL.split("target:")[1]
    text = f"{head}sources: [{', '.join(names)}]\n{tail}"
    assert list(load_recipe(write_recipe(tmp_path, text)).sources) == names


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_weights_fit_their_gpus(path: Path) -> None:
    model = Model.model_validate(read_yaml(path).value)
    gpus = model.engine.tensor_parallel_size or 1
    assert gpus in (1, 2, 4, 8)
    assert model.parameters_b is not None
    assert 2 * model.parameters_b / gpus < 0.8 * 80, "bf16 weights leave too little of 80 GB"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_remote_code_runs_only_where_nothing_else_works(path: Path) -> None:
    trusted = Model.model_validate(read_yaml(path).value).trust_remote_code
    assert trusted == (path.stem == "internlm25-20b")


@pytest.mark.parametrize("path", ACCELERATE, ids=name_of)
def test_accelerate_reads_every_config(path: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(path))
    assert config.mixed_precision == "bf16"
    assert config.num_processes == (1 if "offload" in path.stem else 8)


def test_zero_and_fsdp_configs_say_what_their_names_say() -> None:
    configs = {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in ACCELERATE}
    assert configs["zero2"]["deepspeed_config"]["zero_stage"] == 2
    assert configs["zero3"]["deepspeed_config"]["zero_stage"] == 3
    assert configs["zero3"]["deepspeed_config"]["zero3_save_16bit_model"] is True
    assert configs["fsdp2"]["fsdp_config"]["fsdp_version"] == 2
    assert configs["ddp"]["distributed_type"] == "MULTI_GPU"


# --- llama3-8b-wrpo: numbers of the authors' README and training configuration ---


def test_the_papers_models(paper: Recipe) -> None:
    assert paper.target.model == "meta-llama/Meta-Llama-3-8B-Instruct"
    assert {source.model: source.parameters_b for source in paper.sources.values()} == {
        "mistralai/Mistral-Large-Instruct-2407": 123,
        "google/gemma-2-27b-it": 27,
        "Qwen/Qwen2-72B-Instruct": 72,
        "meta-llama/Meta-Llama-3-70B-Instruct": 70,
        "google/gemma-2-9b-it": 9,
        "internlm/internlm2_5-20b-chat": 20,
        "deepseek-ai/DeepSeek-V2-Chat-0628": 236,
        "deepseek-ai/DeepSeek-Coder-V2-Instruct-0724": 236,
        "01-ai/Yi-1.5-34B-Chat": 34,
        "microsoft/Phi-3-medium-4k-instruct": 14,
    }
    assert sum(source.parameters_b or 0 for source in paper.sources.values()) == 841


def test_the_papers_data(paper: Recipe) -> None:
    [dataset] = paper.prompts.datasets.values()
    assert dataset.path == "princeton-nlp/llama3-ultrafeedback-armorm"
    assert paper.prompts.sft_share == 1 / 3
    assert paper.build.min_gap == 0


def test_the_papers_sampling(paper: Recipe) -> None:
    for name in (*paper.sources, "target"):
        sampling = resolved_sampling(paper, name)
        assert (sampling["responses"], sampling["temperature"], sampling["top_p"]) == (5, 0.8, 0.95)
        assert (sampling["top_k"], sampling["repetition_penalty"]) == (0, 1.0)


def test_answers_are_as_long_as_the_paper_or_the_context_allows(paper: Recipe) -> None:
    for name in (*paper.sources, "target"):
        room = resolved_sampling(paper, name)["max_tokens"]
        short_context = name in ("yi15-34b", "phi3-medium")
        assert room == (4096 - paper.sample.max_prompt_tokens if short_context else 4096), name


def test_the_papers_sft(paper: Recipe) -> None:
    train = paper.sft.train
    assert paper.sft.global_batch_size == 8 * 2 * 8
    assert paper.sft.engine.per_device_batch_size == "auto"
    assert (train["learning_rate"], train["num_train_epochs"]) == (7e-6, 1)
    assert (train["lr_scheduler_type"], train["warmup_steps"]) == ("cosine", 0.1)
    assert (train["max_length"], train["packing"], train["bf16"]) == (2048, True, True)


def test_the_papers_wrpo(paper: Recipe) -> None:
    wrpo = paper.wrpo
    assert (wrpo.objective, wrpo.data) == ("wrpo", "triples")
    assert (wrpo.beta, wrpo.label_smoothing, wrpo.likelihood.weight) == (0.01, 0, 0)
    assert (wrpo.alpha.end, wrpo.alpha.schedule) == (0.1, "linear")
    assert wrpo.global_batch_size == 2 * 8 * 8
    assert wrpo.engine.per_device_batch_size == "auto"
    assert (wrpo.train["learning_rate"], wrpo.train["num_train_epochs"]) == (3e-7, 1)
    assert (wrpo.train["lr_scheduler_type"], wrpo.train["warmup_steps"]) == ("cosine", 0.1)
    assert (paper.truncation.max_length, paper.truncation.max_prompt_length) == (2048, 1800)
    assert wrpo.train["optim"] == "adamw_torch"
    assert paper.seed == 42


def test_the_papers_number_of_steps_follows_from_its_data(paper: Recipe) -> None:
    rows = round(59_876 * (1 - paper.prompts.sft_share))
    assert rows // paper.wrpo.global_batch_size == 311


def test_the_dpo_baseline_differs_in_the_objective_only(paper: Recipe) -> None:
    dpo = preference(paper, "dpo")
    own = dpo.model_dump() | {"objective": "wrpo"}
    assert own == paper.wrpo.model_dump(exclude={"alpha"})


# --- FuseChat-3.0: numbers of the authors' README ---


@pytest.mark.parametrize(
    ("name", "rate_of_sft", "rate", "beta", "loss"),
    [
        ("llama31-8b", 5e-6, 8e-7, 10, "sigmoid_norm"),
        ("qwen25-7b", 2e-6, 3e-7, 0.01, "sigmoid"),
        ("gemma2-9b", 2e-6, 5e-7, 0.01, "sigmoid"),
        ("llama32-3b", 5e-6, 1e-6, 10, "sigmoid_norm"),
        ("llama32-1b", 5e-6, 1e-6, 10, "sigmoid_norm"),
    ],
)
def test_fusechat3_trains_each_target_as_published(
    name: str, rate_of_sft: float, rate: float, beta: float, loss: str
) -> None:
    recipe = load_recipe(RECIPES / "fusechat3" / f"{name}.yaml")
    sft, dpo = recipe.sft, recipe.wrpo
    assert (sft.train["learning_rate"], sft.train["num_train_epochs"]) == (rate_of_sft, 3)
    assert (dpo.train["learning_rate"], dpo.train["num_train_epochs"]) == (rate, 1)
    assert (dpo.objective, dpo.data, dpo.beta, dpo.loss) == ("dpo", "pairs", beta, loss)
    assert sft.global_batch_size == dpo.global_batch_size == 128
    assert (recipe.build.pairs.min_gap, recipe.build.pairs.max_gap) == (0.01, 0.1)
    assert recipe.truncation.max_length == 2048


# Prompts, SFT rows and pairs of each data set.
SIZES = {
    "ultrafeedback": (51_098, 20_439, 30_659),
    "magpie": (20_374, 8_149, 12_225),
    "helpsteer2": (9_435, 3_774, 5_661),
    "openmathinstruct2": (51_803, 40_188, 11_615),
    "leetcode": (3_113, 1_877, 1_236),
    "self-oss-instruct": (12_892, 10_160, 2_732),
    "alpaca-zh": (2_471, 2_471, 0),
    "magpie-zh": (7_481, 7_481, 0),
}


def test_fusechat3_divides_its_data_sets_as_published() -> None:
    datasets = load_recipe(RECIPES / "fusechat3/llama31-8b.yaml").prompts.datasets
    assert datasets.keys() == SIZES.keys()
    assert [sum(column) for column in zip(*SIZES.values(), strict=True)] == [
        158_667,
        94_539,
        64_128,
    ]
    for name, (total, sft, pairs) in SIZES.items():
        share = datasets[name].sft_share
        assert share is not None and abs(share * total - sft) < 1 and total == sft + pairs
        assert datasets[name].max_prompts in (None, total)


def test_fusechat3_treats_each_domain_as_published() -> None:
    recipe = load_recipe(RECIPES / "fusechat3/llama31-8b.yaml")
    every = ["gemma2-27b", "mistral-large", "llama31-70b", "qwen25-72b"]
    asked = {
        domain: [
            (name, resolved_sampling(recipe, name, domain)["responses"])
            for name, source in recipe.sources.items()
            if source.domains and domain in source.domains
        ]
        for domain in ("instruction", "maths", "code", "chinese")
    }
    assert asked == {
        "instruction": [(name, 5) for name in every],
        "maths": [("qwen25-math-72b", 5)],
        "code": [(name, 8) for name in every],
        "chinese": [("qwen25-72b", 1)],
    }
    maths, code = (recipe.build.domains[name] for name in ("maths", "code"))
    assert (maths.verifier, maths.window) == ("maths", True)
    assert (code.verifier, code.window) == ("tests", False)
    assert {name: reward.weight for name, reward in recipe.rewards.items()} == {
        "armorm": 1,
        "maths": 0,
        "tests": 0,
    }
    given = recipe.prompts.datasets["openmathinstruct2"].responses
    assert given is not None and given.source == "llama31-405b"


def test_fusechat3_removes_code_and_maths_from_the_other_domains_only() -> None:
    prompts = load_recipe(RECIPES / "fusechat3/llama31-8b.yaml").prompts
    assert prompts.filters and prompts.filters.remove_code and prompts.filters.remove_math
    own = {dataset.domain_name: dataset.filters for dataset in prompts.datasets.values()}
    assert own["instruction"] is None and own["chinese"] is None
    for domain in ("maths", "code"):
        filters = own[domain]
        assert filters is not None and not (filters.remove_code or filters.remove_math)


def test_the_papers_reward_model_is_the_only_difference_of_its_variant(paper: Recipe) -> None:
    variant = load_recipe(RECIPES / "llama3-8b-wrpo-armorm.yaml")
    reward = variant.rewards["preference"]
    assert list(variant.rewards) == list(paper.rewards)
    assert (reward.type, reward.weight) == ("armorm", 1)
    assert getattr(reward, "model", None) == "RLHFlow/ArmoRM-Llama3-8B-v0.1"
    same = variant.model_copy(update={"run": paper.run, "rewards": paper.rewards})
    assert same == paper


@pytest.mark.parametrize("name", ["qwen25-72b", "qwen25-math-72b"])
def test_qwen_of_fusechat3_has_its_own_sampling(name: str) -> None:
    sampling = Model.model_validate(read_yaml(RECIPES / "sources" / f"{name}.yaml").value).sampling
    assert (sampling.temperature, sampling.top_p) == (0.7, 0.8)
    assert sampling.repetition_penalty == 1.05


def test_all_sources_of_both_papers_are_there() -> None:
    assert {path.stem for path in SOURCES} >= {
        *("mistral-large", "gemma2-27b", "gemma2-9b", "qwen72b", "llama3-70b", "internlm25-20b"),
        *("deepseek-v2-chat", "deepseek-coder-v2", "yi15-34b", "phi3-medium"),
        *("qwen25-72b", "qwen25-math-72b", "llama31-70b"),
    }

"""Prices of stages against sums done by hand, before, while and after a run has its data."""

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.support.recipe_files import tiny_recipe
from wrpo.pipeline.folder import StageFolder
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.status import run_status
from wrpo.pipeline.tables import PROMPTS, RESPONSES
from wrpo.plan.estimate import Estimator
from wrpo.plan.inputs import measured_name
from wrpo.plan.model_shape import shape_of
from wrpo.plan.throughput import Hosted, Measured, ThroughputTable
from wrpo.plan.view import plan_json, plan_text
from wrpo.plan.work import NO_PROMPTS, StageEstimate
from wrpo.recipe import load_recipe

GPU = {
    "source": "test",
    "price_per_hour": 2.0,
    "memory_gib": 80,
    "peak_tflops": 1000,
    "bandwidth_tb_s": 1000,
    "prefill_utilization": 0.5,
    "training_utilization": 0.25,
    "decode_tokens_per_s": {8: 1000},
}
TABLE = ThroughputTable.model_validate(
    {
        "gpu": "fast",
        "gpus": {"fast": GPU, "cpu": {**GPU, "price_per_hour": 0.0}},
        "lengths": {
            "source": "test",
            "prompt_tokens": 100,
            "response_tokens": 200,
            "characters_per_token": 4,
        },
    }
)
SIZES = ["sources.letters.parameters_b=8", "sources.numbers.parameters_b=8"]
SIZES += ["target.parameters_b=8", "rewards.rm.model=hub/reward-8B"]
KNOWN = [*SIZES, "prompts.expected_prompts=3000"]


def pipeline_of(folder: Path, *overrides: str, extra: str = "") -> Pipeline:
    return Pipeline(tiny_recipe(folder, *overrides, extra=extra))


def prices(
    pipeline: Pipeline, *, measured: Any = (), kind: str = "fast"
) -> dict[str, StageEstimate]:
    estimator = Estimator(pipeline, TABLE, measured, kind=kind)
    return {name: estimator.stage(name) for name in pipeline.stages}


def without_attention(flops: float, utilization: float) -> float:
    """GPU hours of so many operations."""
    return flops / (1000e12 * utilization) / 3600


def test_the_whole_run_by_hand(tmp_path: Path) -> None:
    found = prices(pipeline_of(tmp_path, *KNOWN))
    # 3000 prompts x 5 responses x 200 tokens at 1000 tokens/s, and 3000 prompts of 100 tokens.
    decoding = 3000 * 5 * 200 / 1000 / 3600
    reading = without_attention(2 * 8e9 * 3000 * 100, 0.5)
    assert found["sample/letters"].gpu_hours == pytest.approx(decoding + reading, rel=1e-3)
    assert found["sample/letters"].tokens == 3000 * (5 * 200 + 100)
    scoring = without_attention(2 * 8e9 * 3000 * (100 + 5 * 200), 0.5)
    assert found["score/letters"].gpu_hours == pytest.approx(scoring, rel=0.01)
    # 1000 prompts for SFT, three epochs by default, 6ND and the forward pass once more.
    sft = without_attention(8 * 8e9 * 3 * 1000 * 300, 0.25)
    assert found["sft"].gpu_hours == pytest.approx(sft, rel=0.01)
    wrpo = without_attention(8 * 8e9 * 3 * 2000 * (100 + 3 * 200), 0.25)
    assert found["wrpo"].gpu_hours == pytest.approx(wrpo, rel=0.01)
    logprobs = without_attention(2 * 8e9 * 2000 * (100 + 3 * 200), 0.5)
    assert found["logprobs/sft/triples"].gpu_hours == pytest.approx(logprobs, rel=0.01)
    for estimate in found.values():
        assert not estimate.unknown
        assert estimate.dollars == pytest.approx(2.0 * (estimate.gpu_hours or 0))
    assert found["build/triples"].gpu_hours == 0


def test_small_micro_batches_wait_for_python_and_tokens_do_not(tmp_path: Path) -> None:
    def price(*overrides: str, each_ms: float = 1000.0) -> StageEstimate:
        gpu = {**GPU, "micro_batch_ms_per_layer": each_ms, "training_error": 0.05}
        table = ThroughputTable.model_validate({**TABLE.model_dump(), "gpus": {"fast": gpu}})
        pipeline = pipeline_of(tmp_path, *KNOWN, *overrides)
        return Estimator(pipeline, table, (), kind="fast").stage("wrpo")

    fixed = price("wrpo.engine.per_device_batch_size=2")
    shape = shape_of("hub/target", parameters_b=8)
    assert shape is not None
    # 6000 rows of 700 tokens in micro-batches of two.
    assert fixed.gpu_hours == pytest.approx(3000 * shape.layers * 1.0 / 3600)
    assert any("wait for Python" in term.text for term in fixed.terms)
    assert any("within 5%" in term.text for term in fixed.terms)
    budget = ("wrpo.engine.per_device_batch_size=auto", "wrpo.engine.batch_tokens=14000")
    assert price(*budget).gpu_hours == pytest.approx(fixed.gpu_hours / 10)
    # Beside 8 billion weights with optimizer there is no room for more than the first budget.
    measured = price("wrpo.engine.per_device_batch_size=auto")
    assert measured.gpu_hours == pytest.approx(fixed.gpu_hours * 1400 / 4096)
    quick = price("wrpo.engine.per_device_batch_size=2", each_ms=0.001)
    assert quick.gpu_hours == price(each_ms=0).gpu_hours
    assert not any("wait for Python" in term.text for term in quick.terms)


def test_the_target_answers_the_preference_prompts(tmp_path: Path) -> None:
    found = prices(pipeline_of(tmp_path, *KNOWN))
    assert found["sample/target"].tokens == 2000 * (5 * 200 + 100)


def test_without_prompts_no_number_is_made_up(tmp_path: Path) -> None:
    found = prices(pipeline_of(tmp_path, *SIZES))
    for name in ("sample/letters", "score/letters", "sft", "logprobs/sft/triples", "wrpo"):
        assert (found[name].unknown, found[name].gpu_hours) == (NO_PROMPTS, None)


def test_limits_of_all_datasets_tell_the_number(tmp_path: Path) -> None:
    found = prices(pipeline_of(tmp_path, *SIZES, "prompts.datasets.world.limit=3000"))
    assert found["sample/letters"] == prices(pipeline_of(tmp_path, *KNOWN))["sample/letters"]


def test_a_model_without_size_is_named(tmp_path: Path) -> None:
    found = prices(pipeline_of(tmp_path, "prompts.expected_prompts=10"))
    assert found["sample/letters"].unknown == "size of hub/letters unknown: write its parameters_b"
    assert "reward rm" in found["score/letters"].unknown


def test_expected_prompts_is_no_part_of_the_key(tmp_path: Path) -> None:
    assert pipeline_of(tmp_path, *KNOWN).key("prompts") == pipeline_of(tmp_path).key("prompts")


def test_max_steps_need_no_rows(tmp_path: Path) -> None:
    overrides = ["sft.train.max_steps=10", "sft.global_batch_size=4"]
    found = prices(pipeline_of(tmp_path, *SIZES, *overrides))["sft"]
    assert found.tokens == 10 * 4 * (100 + 200)


def test_truncation_caps_what_is_trained_on(tmp_path: Path) -> None:
    found = prices(pipeline_of(tmp_path, *KNOWN, "truncation.max_length=250"))["wrpo"]
    assert found.tokens == 3 * 2000 * (100 + 3 * 150)


@pytest.mark.parametrize(
    ("override", "factor"),
    [
        ("wrpo.train.gradient_checkpointing=false", 6 / 8),
        ("wrpo.lora={}", 6 / 8),
        ("wrpo.reference=model", (8 + 2 * 0.25 / 0.5) / 8),
        ("wrpo.train.num_train_epochs=1", 1 / 3),
        ("wrpo.objective=dpo", 500 / 700),
    ],
)
def test_settings_of_training_change_its_price(
    tmp_path: Path, override: str, factor: float
) -> None:
    before = prices(pipeline_of(tmp_path, *KNOWN))["wrpo"].gpu_hours
    after = prices(pipeline_of(tmp_path, *KNOWN, override))["wrpo"].gpu_hours
    assert before and after
    assert after / before == pytest.approx(factor, rel=0.01)


def measurement(pipeline: Pipeline, source: str, **changes: Any) -> Measured:
    fields = {"model": measured_name(pipeline.recipe, source), "gpu": "some fast card", "gpus": 1}
    fields |= {
        "prompts": 1,
        "prompt_tokens": 1,
        "responses": 10,
        "response_tokens": 500,
        "seconds": 1,
    }
    return Measured.model_validate(fields | changes)


def test_measured_beats_the_table(tmp_path: Path) -> None:
    pipeline = pipeline_of(tmp_path, *KNOWN)
    found = prices(pipeline, measured=[measurement(pipeline, "letters")])
    assert found["sample/letters"].gpu_hours == pytest.approx(3000 * 5 * 200 / 500 / 3600)
    assert found["sample/letters"].basis == "measured"
    assert found["sample/numbers"].basis == found["sample/target"].basis == "table"


def test_what_another_card_did_is_not_used(tmp_path: Path) -> None:
    pipeline = pipeline_of(tmp_path, *KNOWN)
    row = measurement(pipeline, "letters", gpu="cpu")
    assert prices(pipeline, measured=[row])["sample/letters"].basis == "table"
    assert prices(pipeline, measured=[row], kind="cpu")["sample/letters"].basis == "measured"


def test_no_speed_is_above_the_bandwidth(tmp_path: Path) -> None:
    slow = {**GPU, "bandwidth_tb_s": 0.016}  # one second for the 16 GB of weights
    table = TABLE.model_copy(
        update={
            "gpus": {
                "fast": ThroughputTable.model_validate(
                    {**TABLE.model_dump(), "gpus": {"fast": slow}}
                ).gpus["fast"]
            }
        }
    )
    pipeline = pipeline_of(tmp_path, *KNOWN, "sample.engine.max_num_seqs=1")
    found = Estimator(pipeline, table, (), kind="fast").stage("sample/letters")
    assert found.gpu_hours == pytest.approx(3000 * 5 * 200 / 1 / 3600, rel=0.01)


def test_a_served_source_costs_what_its_vendor_takes(tmp_path: Path) -> None:
    served = "sources.letters.engine={backend: openai, endpoints: ['http://x/v1']}"
    pipeline = pipeline_of(tmp_path, *KNOWN, served)
    assert "no price of hub/letters" in prices(pipeline)["sample/letters"].unknown
    hosted = {"hub/letters": Hosted(input=1.0, output=3.0)}
    estimator = Estimator(pipeline, TABLE.model_copy(update={"hosted": hosted}), (), kind="fast")
    found = estimator.stage("sample/letters")
    assert found.dollars == pytest.approx(3000 * 5 * (100 * 1.0 + 200 * 3.0) / 1e6)
    assert found.gpu_hours == 0


def begin_sampling(pipeline: Pipeline) -> StageFolder:
    """Prompts are made: 4 of 80 characters, 1 of them for SFT; letters has half of its parts."""
    prompts = StageFolder(pipeline.folder("prompts"), pipeline.key("prompts"))
    prompts.open()
    rows = [
        {"prompt_id": f"p{n}", "split": "sft" if n == 0 else "preference"}
        | {
            "messages": [
                {"role": "system", "content": "é" * 30},
                {"role": "user", "content": "x" * 50},
            ]
        }
        for n in range(4)
    ]
    prompts.finish_parts(prompts.write_table(rows, PROMPTS))
    sample = StageFolder(pipeline.folder("sample/letters"), pipeline.key("sample/letters"))
    sample.open(parts=2)
    responses = [
        {"prompt_id": "p0", "index": n, "token_count": count} for n, count in enumerate((10, 30))
    ]
    sample.write_part(0, responses, RESPONSES)
    return sample


def test_real_counts_and_lengths_replace_the_expected_ones(tmp_path: Path) -> None:
    pipeline = pipeline_of(tmp_path, *KNOWN)
    begin_sampling(pipeline)
    found = prices(pipeline)
    assert found["sample/letters"].tokens == 4 * (5 * 20 + 80 / 4)
    assert found["sample/letters"].left == 0.5
    assert found["sample/numbers"].tokens == 4 * (5 * 20 + 20)
    assert found["sample/numbers"].left == 1.0
    assert found["sample/target"].tokens == 3 * (5 * 20 + 20)
    assert found["prompts"].left == 0.0
    assert "its own responses" in found["sample/letters"].terms[0].text
    assert "mean of the other models" in found["sample/numbers"].terms[0].text


def test_a_model_that_does_not_fit_is_said_so(tmp_path: Path) -> None:
    pipeline = pipeline_of(tmp_path, *KNOWN, "sources.letters.parameters_b=70")
    lines = plan_text(pipeline, run_status(pipeline), list(prices(pipeline).values()), kind="fast")
    said = " ".join(line.strip() for line in lines)
    assert "Does not fit: 80 GiB x 0.9" in said
    split = "sources.letters.engine.tensor_parallel_size=4"
    again = prices(pipeline_of(tmp_path, *KNOWN, "sources.letters.parameters_b=70", split))
    memory = again["sample/letters"].memory
    assert memory and memory.parts["weights"] == pytest.approx(2 * 70e9 / 4 / 2**30)


@pytest.mark.parametrize(("config", "each"), [("ddp", 16), ("zero2", 4 + 12 / 8), ("zero3", 2)])
def test_memory_of_training_follows_the_accelerate_config(
    tmp_path: Path, config: str, each: float
) -> None:
    path = Path(__file__).parents[3] / f"recipes/accelerate/{config}.yaml"
    found = prices(pipeline_of(tmp_path, *KNOWN, f"wrpo.engine.accelerate={path}"))["wrpo"]
    assert found.memory and found.gpus == 8
    state = sum(found.memory.parts[part] for part in ("weights", "gradients", "optimizer"))
    assert state == pytest.approx(each * 8e9 / 2**30)
    assert found.hours == pytest.approx((found.gpu_hours or 0) / 8)


def test_the_sums_and_what_is_left_out_of_them(tmp_path: Path) -> None:
    pipeline = pipeline_of(tmp_path, *KNOWN, "eval.tasks=[of_mine]")
    estimates = list(prices(pipeline).values())
    stages = run_status(pipeline)
    plan = json.loads(json.dumps(plan_json(pipeline, stages, estimates, kind="fast")))
    total = sum(stage["price"]["gpu_hours"] or 0 for stage in plan["stages"])
    assert plan["total"]["gpu_hours"] == plan["total"]["gpu_hours_left"] == pytest.approx(total)
    assert "eval/wrpo" in plan["total"]["without_price"]


DOMAINS = """\
    prompts:
      datasets:
        chat: {path: hub/chat, max_prompts: 1000, sft_share: 0.5}
        maths: {path: hub/maths, domain_name: math, limit: 400, sft_share: 0}
        own: {path: hub/own, limit: 300, sft_share: 1, responses: {source: gold, column: reply}}
    sample:
      domains: {math: {responses: 10}}
    """


def test_domains_have_their_own_prompts_and_answers(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    tiny_recipe(tmp_path)
    text = path.read_text().split("prompts:")
    rewards = "rewards:" + text[1].split("rewards:")[1]
    path.write_text(text[0] + textwrap.dedent(DOMAINS) + rewards)
    overrides = [*SIZES, f"runs={tmp_path / 'runs'}", "sources.numbers.domains=[math]"]
    found = prices(Pipeline(load_recipe(path, overrides)))
    assert found["sample/letters"].tokens == 1700 * 100 + (1000 * 5 + 400 * 10 + 300 * 5) * 200
    assert found["sample/numbers"].tokens == 400 * 100 + 400 * 10 * 200
    assert found["sample/target"].tokens == 900 * 100 + (500 * 5 + 400 * 10) * 200
    assert found["sample/gold"].gpu_hours == 0
    assert found["score/gold"].tokens == 300 * (100 + 200)
    assert found["sft"].tokens == 3 * (500 + 300) * (100 + 200)
    narrow = prices(Pipeline(load_recipe(path, [*overrides, "rewards.rm.domains=[math]"])))
    assert narrow["score/letters"].tokens == 400 * (100 + 10 * 200)
    assert narrow["score/numbers"] == found["score/numbers"]
    assert narrow["score/gold"].terms == ()  # no prompt of that domain came with a response


def priced_arm(folder: Path, arm: dict[str, Any]) -> StageEstimate:
    own = {"train": {"learning_rate": 1e-6, "max_steps": 10}, **arm}
    return prices(pipeline_of(folder, *KNOWN, f"arms.own={json.dumps(own)}"))["own"]


def test_an_arm_that_samples_pays_for_it_and_for_its_teacher(tmp_path: Path) -> None:
    """Ten steps of 128 prompts of 100 tokens; the expected response has 200."""
    sft = priced_arm(tmp_path, {"objective": "sft"})
    assert sft.tokens == 1280 * 300
    grpo = {"objective": "grpo", "num_generations": 4, "max_new_tokens": 150}
    found = priced_arm(tmp_path, grpo)
    assert found.tokens == 1280 * 4 * (150 + 2 * (100 + 150))  # sampled; trained on and scored
    assert found.memory and found.memory.parts["rm"] == pytest.approx(2 * 8e9 / 2**30)
    assert "5,120 responses sampled" in " ".join(term.text for term in found.terms)
    mixed = {"objective": "gkd", "teacher": "letters", "on_policy": 0.5, "max_new_tokens": 100}
    found = priced_arm(tmp_path, mixed)
    assert found.tokens == 640 * 100 + 2 * 1280 * (100 + 150)  # trained and by the teacher
    fixed = priced_arm(tmp_path, {**mixed, "on_policy": 0.0})
    assert fixed.tokens == 2 * 1280 * 300 and not fixed.note
    assert fixed.memory and sft.memory and fixed.memory.total > sft.memory.total
    assert fixed.gpu_hours and sft.gpu_hours and fixed.gpu_hours > sft.gpu_hours


@pytest.mark.parametrize(("data", "each"), [("rejection", 2), ("responses", 3 * 5)])
def test_tables_of_responses_have_several_rows_for_a_prompt(
    data: str, each: int, tmp_path: Path
) -> None:
    extra = """
    build: {rejection: {keep: 2}}
    arms:
      imitate: {objective: sft, data: DATA, train: {num_train_epochs: 1}}
    """.replace("DATA", data)
    found = prices(pipeline_of(tmp_path, *KNOWN, extra=extra))["imitate"]
    one = without_attention(8 * 8e9 * 2000 * 300, 0.25)
    assert found.gpu_hours == pytest.approx(each * one, rel=0.02)

"""Prices of evaluation, against sums done by hand."""

import json
from pathlib import Path

import pytest

from tests.wrpo.plan.test_estimate import KNOWN, TABLE, pipeline_of, prices, without_attention
from wrpo.plan.estimate import Estimator
from wrpo.plan.view import explanation

# Expected lengths of TABLE: prompts of 100 tokens, responses of 200; 1000 response tokens per
# second.
JUDGES = """\
    judges:
      paid:
        model: j
        temperature: 1
        engine: {endpoints: [http://x/v1], input_price: 10, output_price: 30}
      own: {model: j, temperature: 1, engine: {endpoints: [http://x/v1]}}
    """


def test_a_suite_costs_the_questions_that_it_states(tmp_path: Path) -> None:
    found = prices(pipeline_of(tmp_path, *KNOWN, "eval.suite=quick"))["eval/wrpo"]
    # ifeval 541, gsm8k 1319, math 500 with four examples; no limit is below 200 tokens.
    questions = 541 + 1319 + 500
    read = questions * 100 + 500 * 4 * (100 + 200)
    reading = without_attention(2 * 8e9 * read, 0.5)
    assert found.tokens == questions * 200 + read
    decoding = questions * 200 / 1000 / 3600
    assert found.gpu_hours == pytest.approx(decoding + reading, rel=1e-3)
    assert not found.unknown and not found.note


def test_a_limit_of_documents_and_of_tokens_counts(tmp_path: Path) -> None:
    suite = tmp_path / "own.yaml"
    entry = "harness: lm-eval, version: '1', task: mine, documents: 50, shots: 0, template: t"
    entry += ", decoding: {max_gen_toks: 40}, metric: acc, comparable: 'no', why: w"
    suite.write_text(f"suite: own\nversion: 1\nabout: a\nbenchmarks: {{mine: {{{entry}}}}}\n")
    found = prices(pipeline_of(tmp_path, *KNOWN, f"eval.suite={suite}"))["eval/target"]
    assert found.tokens == 50 * (100 + 40)
    limited = prices(pipeline_of(tmp_path, *KNOWN, f"eval.suite={suite}", "eval.limit=7"))
    assert limited["eval/target"].tokens == 7 * (100 + 40)


def test_a_task_of_unknown_size_is_named_and_the_table_can_tell_it(tmp_path: Path) -> None:
    pipeline = pipeline_of(tmp_path, *KNOWN, "eval.tasks=[of_mine, gsm8k_boxed]")
    found = prices(pipeline)["eval/wrpo"]
    assert found.tokens == 1319 * 300  # what a suite states of the task counts for any recipe
    assert found.note.startswith("number of questions of of_mine unknown")
    shown = explanation(found, kind="fast", decimals=2)
    assert f"leaves out: {found.note}" in shown
    alone = prices(pipeline_of(tmp_path, *KNOWN, "eval.tasks=[of_mine]"))["eval/wrpo"]
    assert alone.gpu_hours is None
    assert "questions of of_mine unknown: write it under `questions`" in alone.unknown
    table = TABLE.model_copy(update={"questions": {"of_mine": 10}})
    told = Estimator(pipeline, table, (), kind="fast").stage("eval/wrpo")
    assert (told.tokens, told.note) == ((10 + 1319) * 300, "")


@pytest.mark.parametrize(
    ("benchmark", "responses", "calls", "read", "written"),
    [
        ("alpaca_eval_2", 805, 805, 300 + 100 + 2 * 200, 1),
        ("arena_hard", 500, 1000, 300 + 100 + 2 * 200, 300),
        # The first turn alone, then both.
        ("mt_bench", 160, 160, 300 + 1.5 * (100 + 200), 300),
    ],
)
def test_judged_benchmarks_cost_answers_and_calls(
    tmp_path: Path, benchmark: str, responses: int, calls: int, read: float, written: int
) -> None:
    judged = f"eval.judged={{{benchmark}: {{judge: paid}}}}"
    found = prices(pipeline_of(tmp_path, *KNOWN, judged, extra=JUDGES))
    assert found[f"responses/{benchmark}/sft"].tokens == responses * (100 + 200)
    verdicts = found[f"judge/{benchmark}/sft"]
    assert verdicts.gpu_hours == 0
    assert verdicts.dollars == pytest.approx(calls * (read * 10 + written * 30) / 1e6)
    assert f"{calls:,} calls of judge paid" in verdicts.terms[0].text


def test_own_questions_are_counted(tmp_path: Path) -> None:
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps({"n": n}) + "\n" for n in range(5)))
    judged = f"eval.judged={{arena_hard: {{judge: paid, questions: {questions}, limit: LIMIT}}}}"
    for limit, count in ((9, 5), (3, 3)):
        override = judged.replace("LIMIT", str(limit))
        found = prices(pipeline_of(tmp_path, *KNOWN, override, extra=JUDGES))
        assert f"{count} questions x 2 orders" in found["judge/arena_hard/wrpo"].terms[0].text


def test_a_judge_without_prices_is_counted_and_named(tmp_path: Path) -> None:
    judged = "eval.judged={arena_hard: {judge: own}}"
    found = prices(pipeline_of(tmp_path, *KNOWN, judged, extra=JUDGES))["judge/arena_hard/wrpo"]
    assert found.dollars is None
    assert found.unknown.startswith("1,000 calls of judge own: write judges.own.engine.input_price")


def test_a_judge_that_gives_rewards_is_paid_while_scoring(tmp_path: Path) -> None:
    reward = "rewards.j={type: judge, judge: JUDGE, opponent: numbers, samples: 3}"
    paid = reward.replace("JUDGE", "paid")
    without = prices(pipeline_of(tmp_path, *KNOWN, extra=JUDGES))["score/letters"]
    found = prices(pipeline_of(tmp_path, *KNOWN, paid, extra=JUDGES))["score/letters"]
    calls = 3000 * 5 * 3 * 2
    asked = calls * ((300 + 100 + 2 * 200) * 10 + 300 * 30) / 1e6
    assert found.dollars == pytest.approx((without.dollars or 0) + asked)
    own = prices(pipeline_of(tmp_path, *KNOWN, reward.replace("JUDGE", "own"), extra=JUDGES))
    assert own["score/letters"].gpu_hours == without.gpu_hours
    assert f"{calls:,} calls of judge own" in own["score/letters"].note


def test_a_judge_is_asked_in_the_domains_of_its_reward(tmp_path: Path) -> None:
    sizes = ["prompts.datasets.world.expected_prompts=2000"]
    sizes += ["prompts.datasets.maths={path: hub/maths, domain_name: math, limit: 400}"]
    reward = "rewards.j={type: judge, judge: paid, domains: [math]}"
    pipeline = pipeline_of(tmp_path, *KNOWN[:-1], *sizes, reward, extra=JUDGES)
    calls = [term.text for term in prices(pipeline)["score/letters"].terms if "judge" in term.text]
    assert [text.split(" x (")[0] for text in calls] == [
        "j: 2,000 responses x 1 = 2,000 calls of judge paid"
    ]


def test_a_model_too_large_for_one_gpu_needs_vllm(tmp_path: Path) -> None:
    large = ("sources.letters.parameters_b=70", "eval.suite=quick")
    split = "sources.letters.engine.tensor_parallel_size=4"
    hf = prices(pipeline_of(tmp_path, *KNOWN, *large, split))["eval/letters"]
    assert hf.memory and hf.gpus == 1
    assert hf.memory.note.startswith("does not fit") and "eval.backend=vllm" in hf.memory.note
    vllm = prices(pipeline_of(tmp_path, *KNOWN, *large, split, "eval.backend=vllm"))["eval/letters"]
    assert vllm.memory and vllm.gpus == 4
    assert vllm.memory.note.startswith("room for")

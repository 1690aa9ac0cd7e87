"""The work of evaluation: benchmarks of lm-eval, responses to judged benchmarks, verdicts on them.

Lengths are expected ones, not those of the run: a benchmark's questions are not its prompts.
"""

from __future__ import annotations

import json
from pathlib import Path

from wrpo.engines.base import Capacity
from wrpo.files import is_file
from wrpo.plan.formulas import short
from wrpo.plan.inputs import Facts
from wrpo.plan.sampling_cost import RAISE_TENSOR_PARALLEL, fuse, generate
from wrpo.plan.work import RowCount, UnknownPrice, Work
from wrpo.recipe import TARGET
from wrpo.recipe.evaluation import Eval
from wrpo.recipe.resolved import vllm_engine
from wrpo.recipe.suite import (
    LMEvalBenchmark,
    evaluated_tasks,
    judged_decoding,
    load_suite,
    shipped_suites,
    suites_of,
)

_HF_ADVICE = "eval.backend=vllm uses the GPUs of the model's engine.tensor_parallel_size"
_LIMITS = ("max_gen_toks", "max_tokens")


def benchmark_work(facts: Facts, model: str) -> Work:
    """lm-eval's tasks of a recipe, answered by one model."""
    settings = facts.recipe.eval
    stated, expected = stated_tasks(settings), facts.table.lengths
    groups, longest, unknown = [], 0, []
    for task in evaluated_tasks(settings):
        entry = stated.get(task)
        count = facts.table.questions.get(task) or (entry.documents if entry else None)
        if count is None:
            unknown.append(task)
            continue
        most = (
            next((int(entry.decoding[k]) for k in _LIMITS if k in entry.decoding), 0)
            if entry
            else 0
        )
        response = min(expected.response_tokens, most or expected.response_tokens)
        examples = (entry.shots if entry else 0) * (expected.prompt_tokens + response)
        count = min(count, settings.limit or count)
        groups.append((task, RowCount(count, expected.prompt_tokens + examples), response))
        longest = max(longest, most)
    if not groups:
        raise UnknownPrice(NO_QUESTIONS.format(", ".join(unknown)))
    work = _answering(facts, model, groups, longest=longest)
    if unknown:
        work.notes.append(NO_QUESTIONS.format(", ".join(unknown)))
    return work


def judged_responses_work(facts: Facts, benchmark: str, model: str) -> Work:
    """Responses of one model to a judged benchmark."""
    judged, expected = facts.recipe.eval.judged[benchmark], facts.table.lengths
    most = int(judged_decoding(facts.recipe.eval, benchmark)["max_tokens"])
    count = judged_questions(facts, benchmark) * judged.turns
    response = min(expected.response_tokens, most)
    rows = RowCount(count, expected.prompt_tokens)
    return _answering(facts, model, [(benchmark, rows, response)], longest=most)


def verdicts_work(facts: Facts, benchmark: str) -> Work:
    """Verdicts on the responses of one model."""
    judged, expected = facts.recipe.eval.judged[benchmark], facts.table.lengths
    questions, calls = judged_questions(facts, benchmark), judged.calls()
    work = Work(facts.gpu, gpus=0)
    ask_judge(
        facts,
        work,
        judged.judge,
        calls=questions * calls.count,
        origin=f"{questions:,} questions x {calls.what}",
        read=expected.prompt_tokens * calls.questions + expected.response_tokens * calls.responses,
        written=calls.written,
    )
    return work


def _answering(
    facts: Facts, model: str, groups: list[tuple[str, RowCount, float]], *, longest: int
) -> Work:
    """Reads the prompts of all groups and writes a response of that many tokens to each."""
    recipe = facts.recipe
    if model in recipe.fusions:
        work = Work(facts.gpu)
        for _, rows, response in groups:
            fuse(facts, work, model, rows, response)
        return work
    source = model if model in recipe.sources else TARGET
    capacity = _capacity(facts, source)
    work = Work(facts.gpu, gpus=capacity.gpus)
    count = sum(rows.count for _, rows, _ in groups)
    read = sum(rows.tokens for _, rows, _ in groups)
    written = sum(rows.count * response for _, rows, response in groups)
    for task, rows, response in groups:
        work.tell(
            f"{task}: {rows.count:,.0f} responses x {response:,.0f} tokens (expected length) = "
            f"{short(rows.count * response)} tokens"
        )
    generate(
        facts,
        work,
        source,
        capacity,
        read=RowCount(count, read / count),
        response=written / count,
        written=written,
        prompts_from="expected length",
        longest=round(read / count) + longest,
        advice=RAISE_TENSOR_PARALLEL if recipe.eval.runs_on_vllm else _HF_ADVICE,
    )
    return work


def _capacity(facts: Facts, source: str) -> Capacity:
    """Sampling's settings serve vLLM here too; hf runs batches on one GPU."""
    capacity = vllm_engine(facts.recipe, source).capacity
    if facts.recipe.eval.runs_on_vllm:
        return capacity
    return capacity._replace(gpus=1, sequences=facts.recipe.eval.engine.batch_size)


NO_QUESTIONS = "number of questions of {} unknown: write it under `questions` in throughput.yaml"


def stated_tasks(settings: Eval) -> dict[str, LMEvalBenchmark]:
    """What suites state of lm-eval's tasks, by task; the recipe's own suites before others."""
    suites = [*suites_of(settings), *(load_suite(name) for name in shipped_suites())]
    stated: dict[str, LMEvalBenchmark] = {}
    for suite in suites:
        for entry in suite.lm_eval().values():
            known = stated.setdefault(entry.task, entry)
            if known.documents is None and entry.documents is not None:
                stated[entry.task] = entry
    return stated


def judged_questions(facts: Facts, benchmark: str) -> int:
    """Questions of a judged benchmark: those of its file, of the table, or what suites state.

    Raises:
        UnknownPrice: no field gives one.
    """
    judged = facts.recipe.eval.judged[benchmark]
    count = _counted(judged.questions) if judged.questions else None
    count = count or facts.table.questions.get(benchmark)
    if count is None:
        suites = [load_suite(name) for name in shipped_suites()]
        entries = [entry for suite in suites if (entry := suite.judged().get(benchmark))]
        count = next((entry.documents for entry in entries if entry.documents), None)
    if count is None:
        raise UnknownPrice(NO_QUESTIONS.format(benchmark))
    return min(count, judged.limit or count)


def _counted(path: Path) -> int | None:
    """Records of a JSON list or of JSON lines; None where the file cannot be read."""
    if not is_file(path):
        return None
    try:
        text = path.read_text(encoding="utf-8")
        if text.lstrip().startswith("["):
            return len(json.loads(text))
    except (OSError, ValueError):
        return None
    return sum(bool(line.strip()) for line in text.splitlines())


def ask_judge(
    facts: Facts,
    work: Work,
    name: str,
    *,
    calls: int,
    origin: str,
    read: float,
    written: float | None = None,
) -> None:
    """Adds the calls of one judge; without prices in the recipe they are only counted.

    Args:
        origin: where the number of calls is from.
        read: tokens of a call beside the judge's instructions.
        written: tokens of a verdict; None: as expected, within the judge's limit.
    """
    judge, lengths = facts.recipe.judges[name], facts.table.lengths
    read = read + lengths.judge_prompt_tokens
    expected = lengths.judge_reply_tokens
    if written is None:
        written = min(expected, judge.max_tokens or expected)
    line = (
        f"{origin} = {calls:,} calls of judge {name} x ({read:,.0f} tokens in, {written:,.0f} out, "
        "expected)"
    )
    price_in, price_out = judge.engine.input_price, judge.engine.output_price
    if price_in is None or price_out is None:
        work.tokens += calls * (read + written)
        work.tell(line)
        work.notes.append(
            f"{calls:,} calls of judge {name}: write judges.{name}.engine.input_price and "
            "output_price, 0 where you serve it yourself"
        )
        return
    prices = (price_in, price_out)
    work.pay(f"{line}: ", read=calls * read, written=calls * written, prices=prices)

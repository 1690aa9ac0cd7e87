"""The work of evaluation: benchmarks of lm-eval, answers to judged benchmarks, verdicts on them.

Lengths are expected ones, not those of the run: a benchmark's questions are not its prompts.
"""

from __future__ import annotations

from wrpo.pricing.facts import Facts
from wrpo.pricing.judge_work import ask_judge
from wrpo.pricing.price import UnknownPrice
from wrpo.pricing.questions import NO_QUESTIONS, TURNS, judged_questions, stated_tasks
from wrpo.pricing.sampling_work import RAISE_TENSOR_PARALLEL, generate
from wrpo.pricing.short import short
from wrpo.pricing.work import Rows, Work
from wrpo.recipe import TARGET
from wrpo.recipe.judged_sections import asks_both_orders
from wrpo.recipe.sampling_sections import Engine
from wrpo.recipe.suite import evaluated_tasks, judged_decoding
from wrpo.sampling import resolved_engine

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
        answer = min(expected.answer_tokens, most or expected.answer_tokens)
        examples = (entry.shots if entry else 0) * (expected.prompt_tokens + answer)
        count = min(count, settings.limit or count)
        groups.append((task, Rows(count, expected.prompt_tokens + examples), answer))
        longest = max(longest, most)
    if not groups:
        raise UnknownPrice(NO_QUESTIONS.format(", ".join(unknown)))
    work = _answering(facts, model, groups, longest=longest)
    if unknown:
        work.notes.append(NO_QUESTIONS.format(", ".join(unknown)))
    return work


def judged_answers_work(facts: Facts, benchmark: str, model: str) -> Work:
    """Answers of one model to a judged benchmark."""
    judged, expected = facts.recipe.eval.judged[benchmark], facts.table.lengths
    most = int(judged_decoding(facts.recipe.eval, benchmark)["max_tokens"])
    count = judged_questions(benchmark, judged) * TURNS.get(benchmark, 1)
    answer = min(expected.answer_tokens, most)
    rows = Rows(count, expected.prompt_tokens)
    return _answering(facts, model, [(benchmark, rows, answer)], longest=most)


def verdicts_work(facts: Facts, benchmark: str) -> Work:
    """Verdicts on the answers of one model."""
    judged, expected = facts.recipe.eval.judged[benchmark], facts.table.lengths
    questions, turns = judged_questions(benchmark, judged), TURNS.get(benchmark, 1)
    orders = 2 if asks_both_orders(benchmark, judged) and turns == 1 else 1
    shown = 1.5 if turns == 2 else 2.0  # mt_bench: the first answer alone, then both turns
    work = Work(facts.gpu, gpus=0)
    told = f"{questions:,} questions"
    told += f" x {turns} turns" if turns > 1 else f" x {orders} order{'s' if orders > 1 else ''}"
    ask_judge(
        facts,
        work,
        judged.judge,
        calls=questions * turns * orders,
        told=told,
        read=expected.prompt_tokens * (shown if turns == 2 else 1) + expected.answer_tokens * shown,
        written=1 if benchmark == "alpaca_eval_2" and judged.logprobs else None,
    )
    return work


def _answering(
    facts: Facts, model: str, groups: list[tuple[str, Rows, float]], *, longest: int
) -> Work:
    """Reads the prompts of all groups and writes an answer of that many tokens to each."""
    recipe = facts.recipe
    source = model if model in recipe.sources else TARGET
    engine = _engine(facts, source)
    work = Work(facts.gpu, gpus=max(engine.gpus_per_replica, 1))
    count = sum(rows.count for _, rows, _ in groups)
    read = sum(rows.tokens for _, rows, _ in groups)
    written = sum(rows.count * answer for _, rows, answer in groups)
    for task, rows, answer in groups:
        work.tell(
            f"{task}: {rows.count:,.0f} answers x {answer:,.0f} tokens (expected length) = "
            f"{short(rows.count * answer)} tokens"
        )
    generate(
        facts,
        work,
        source,
        engine,
        read=Rows(count, read / count),
        answer=written / count,
        written=written,
        prompts_from="expected length",
        longest=round(read / count) + longest,
        advice=RAISE_TENSOR_PARALLEL if recipe.eval.backend == "vllm" else _HF_ADVICE,
    )
    return work


def _engine(facts: Facts, source: str) -> Engine:
    """Sampling's settings serve vLLM here too; hf runs batches on one GPU."""
    engine = resolved_engine(facts.recipe, source)
    if facts.recipe.eval.backend == "vllm":
        return engine
    one = {"tensor_parallel_size": 1, "pipeline_parallel_size": 1}
    return engine.model_copy(
        update={**one, "max_num_seqs": facts.recipe.eval.engine.batch_size, "backend": "vllm"}
    )

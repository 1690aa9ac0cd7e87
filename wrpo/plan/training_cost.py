"""The work of stages that compute responses which are there: scoring, log-probs, training."""

from __future__ import annotations

from dataclasses import replace

from wrpo.objectives.base import ObjectiveSettings, SampledInTraining
from wrpo.pipeline.tables import ROW_RESPONSES
from wrpo.plan.evaluation_cost import ask_judge
from wrpo.plan.formulas import GIB, decode_bound, distribution_bytes, short
from wrpo.plan.inputs import Facts
from wrpo.plan.memory import processes_of, scoring_memory, training_memory
from wrpo.plan.model_shape import Shape, shape_of, unknown_size
from wrpo.plan.throughput import decode_speed
from wrpo.plan.volumes import Asked, Length
from wrpo.plan.work import EPOCHS, RowCount, UnknownPrice, Work
from wrpo.recipe import TARGET, preference
from wrpo.recipe.prompts import explored_datasets
from wrpo.recipe.resolved import sampling_model
from wrpo.rewards.base import JudgeCalls, RewardNetwork
from wrpo.training.settings import Training


def scoring_work(facts: Facts, source: str) -> Work:
    """All rewards of the responses of a source, each in its domains."""
    work = Work(facts.gpu, gpus=0)
    prompt, response = facts.volumes.prompt, facts.volumes.response(source)
    for name, reward in facts.recipe.rewards.items():
        asked = facts.asked(source, reward.domains)
        if not asked.responses:
            continue
        if calls := reward.judge_calls():
            _judging(facts, work, name, calls, asked=asked, response=response.tokens)
        for network in reward.networks():
            _reading(work, name, network, asked=asked, prompt=prompt, response=response)
    return work


def _reading(
    work: Work, name: str, network: RewardNetwork, *, asked: Asked, prompt: Length, response: Length
) -> None:
    """One pass over all responses behind their prompts."""
    work.gpus = 1
    shape = _reward_shape(name, network)
    each, rest = divmod(asked.responses / max(asked.prompts, 1), 1)
    responses = [response.tokens] * int(each) + [response.tokens * rest] * (rest > 0)
    rows = RowCount(asked.prompts, prompt.tokens, responses)
    work.read(
        shape,
        rows,
        what=f"{name}, {asked.responses:,} responses ({response.basis}) behind their prompts",
    )
    memory = scoring_memory(
        shape, bytes_per_weight=network.bytes_per_weight, tokens=network.batch_tokens
    )
    if work.memory is None or memory.total > work.memory.total:
        work.memory = memory


def _reward_shape(name: str, network: RewardNetwork) -> Shape:
    shape = shape_of(network.model, revision=network.revision)
    if shape is None:
        raise UnknownPrice(
            unknown_size(network.model, f"the name of reward {name} does not tell it")
        )
    return shape


def _judging(
    facts: Facts, work: Work, name: str, calls: JudgeCalls, *, asked: Asked, response: float
) -> None:
    """Each response is shown to a judge, alone or with another."""
    ask_judge(
        facts,
        work,
        calls.judge,
        calls=asked.responses * calls.per_response,
        origin=f"{name}: {asked.responses:,} responses x {calls.per_response}",
        read=facts.volumes.prompt.tokens + response * calls.responses_read,
        written=calls.written,
    )


def logprobs_work(facts: Facts, model: str, rows_name: str) -> Work:
    """One pass of a model over the rows of a table."""
    count, basis = facts.rows("triples" if rows_name == "anchors" else rows_name)
    shape = facts.shape(sampling_model(facts.recipe, TARGET if model == "sft" else model))
    named = ("anchor",) if rows_name == "anchors" else ROW_RESPONSES[rows_name]
    prompt, responses = facts.lengths(rows_name, named)
    work = Work(facts.gpu)
    what = f"{len(responses)} responses behind each prompt ({basis})"
    work.read(shape, RowCount(count, prompt, responses), what=what)
    tokens = facts.recipe.logprobs.engine.batch_tokens
    work.memory = scoring_memory(shape, bytes_per_weight=4, tokens=tokens)
    return work


def exploring_work(facts: Facts, dataset: str) -> Work:
    """Requests to the judge that makes prompts up: at most those that a full tree takes."""
    settings = explored_datasets(facts.recipe.prompts)[dataset]
    tasks = sum(settings.children**level for level in range(settings.depth + 1))
    extended = tasks - settings.children**settings.depth
    calls = min(settings.max_requests, (extended + tasks) * settings.tries)
    work = Work(facts.gpu, gpus=0)
    lengths = facts.table.lengths
    ask_judge(
        facts,
        work,
        settings.judge,
        calls=calls,
        origin=f"at most {tasks:,} tasks x {settings.tries} tries within max_requests",
        read=lengths.prompt_tokens,
        written=10 * lengths.prompt_tokens,
    )
    return work


def exam_work(facts: Facts) -> Work:
    """Three questions to a judge about each SFT row, and the target's pass over the exam.

    The dearest case: every row needs facts, and no reply has to be asked for again.
    """
    settings = facts.recipe.consistency
    assert settings is not None  # a stage of exams has settings
    count, basis = facts.rows("sft")
    work = Work(facts.gpu)
    prompt, [response] = facts.lengths("sft", ("completion",))
    ask_judge(
        facts,
        work,
        settings.judge,
        calls=count * 3,
        origin=f"{count:,} SFT rows ({basis}) x need, passage, exam",
        read=prompt + response,
    )
    each = min(settings.max_length, 8 * facts.table.lengths.prompt_tokens)
    rows = RowCount(count * settings.questions, each)
    work.read(facts.shape(facts.recipe.target), rows, what="the target sits the exams")
    work.memory = scoring_memory(
        facts.shape(facts.recipe.target),
        bytes_per_weight=4,
        tokens=facts.recipe.logprobs.engine.batch_tokens,
    )
    return work


def pruning_work(facts: Facts) -> Work:
    """One pass over the calibration texts for each block that could go, at each removal."""
    settings, entry = facts.recipe.prune, facts.recipe.target
    assert settings is not None  # a stage that prunes has settings
    shape = facts.shape(entry)
    units = shape.layers * (2 if settings.blocks == "both" else 1)
    passes = sum(units - removed for removed in range(settings.remove))
    count = max(1, settings.calibration_tokens // settings.sequence_tokens)
    work = Work(facts.gpu)
    work.read(
        shape,
        RowCount(passes * count, settings.sequence_tokens),
        what=f"{passes:,} passes over {count:,} sequences",
    )
    tokens = settings.batch_sequences * settings.sequence_tokens
    work.memory = scoring_memory(shape, bytes_per_weight=2, tokens=tokens)
    return work


def teacher_logits_work(facts: Facts, model: str, response: str) -> Work:
    """One pass of a teacher over one response of each triple."""
    count, basis = facts.rows("triples")
    shape = facts.shape(sampling_model(facts.recipe, TARGET if model == "sft" else model))
    prompt, responses = facts.lengths("triples", (response,))
    work = Work(facts.gpu)
    work.read(shape, RowCount(count, prompt, responses), what=f"{response} of each row ({basis})")
    settings = facts.recipe.teacher_logits
    each, told = distribution_bytes(settings.top_k), (count or 0) * responses[0]
    work.tell(
        f"table: {short(told)} response tokens x {each} bytes = {told * each / GIB:.3g} GiB of "
        "disk while an arm trains on it, three quarters of that before and after"
    )
    tokens = round((prompt + responses[0]) * settings.engine.batch_responses)
    work.memory = scoring_memory(shape, bytes_per_weight=4, tokens=tokens)
    return work


def sft_work(facts: Facts) -> Work:
    """Supervised fine-tuning."""
    settings = facts.recipe.sft
    steps, origin = _steps(facts, settings, "sft")
    prompt, responses = facts.lengths("sft", ("completion",))
    rows = RowCount(steps * settings.global_batch_size, prompt, responses)
    return _trained(facts, settings, rows, origin=origin)


def arm_work(facts: Facts, name: str) -> Work:
    """An arm: what it samples, what its policy trains on, what reference and teachers forward."""
    settings = preference(facts.recipe, name)
    steps, origin = _steps(facts, settings, settings.data)
    prompt, responses = facts.lengths(settings.data, settings.responses)
    rows = RowCount(steps * settings.global_batch_size, prompt, responses)
    if settings.sampled is not None:
        rows, written = _with_sampled(facts, settings.sampled, rows)
        origin += f", {written.count:,.0f} responses sampled"
    reference = settings.keeps_reference_model
    work = _trained(facts, settings, rows, origin=origin, second_model=reference)
    if settings.sampled is not None:
        _decode_in_training(facts, work, settings, written)
    if settings.is_rewarded:
        _rewarding(facts, work, written)
    if reference:
        work.read(facts.shape(facts.recipe.target), rows, what="reference model")
    for teacher in settings.teachers_beside:
        shape = facts.shape(sampling_model(facts.recipe, teacher))
        work.read(shape, rows, what=f"teacher {teacher}")
        assert work.memory is not None
        weights = 4 * shape.parameters / GIB
        work.memory = replace(work.memory, parts={**work.memory.parts, teacher: weights})
    return work


def _rewarding(facts: Facts, work: Work, written: RowCount) -> None:
    """Every reward reads what is sampled to the prompts of its domains, beside the policy."""
    everywhere = facts.asked(TARGET).responses
    [response] = written.responses
    memory = work.memory
    assert memory is not None
    for name, reward in facts.recipe.rewards.items():
        count = written.count * facts.asked(TARGET, reward.domains).responses / max(everywhere, 1)
        if calls := reward.judge_calls():
            ask_judge(
                facts,
                work,
                calls.judge,
                calls=round(count * calls.per_response),
                origin=f"{name}: {count:,.0f} sampled responses x {calls.per_response}",
                read=written.prompt + response * calls.responses_read,
                written=calls.written,
            )
        for network in reward.networks():
            shape = _reward_shape(name, network)
            rows = RowCount(count, written.prompt, [response])
            work.read(shape, rows, what=f"{name}, every sampled response behind its prompt")
            weights = network.bytes_per_weight * shape.parameters / GIB
            memory = replace(memory, parts={**memory.parts, name: weights})
    work.memory = memory


def _trained(
    facts: Facts, settings: Training, rows: RowCount, *, origin: str, second_model: bool = False
) -> Work:
    shape, processes = facts.shape(facts.recipe.target), processes_of(settings)
    work = Work(facts.gpu, gpus=processes.gpus)
    work.memory = training_memory(
        shape, settings, row_tokens=rows.each, processes=processes, second_model=second_model
    )
    work.train(shape, settings, rows, origin=origin)
    return work


def _with_sampled(
    facts: Facts, sampled: SampledInTraining, rows: RowCount
) -> tuple[RowCount, RowCount]:
    """What is trained on where a share of steps samples its responses; and what is sampled."""
    expected = facts.volumes.response(TARGET).tokens
    written = RowCount(
        rows.count * sampled.share * sampled.per_prompt,
        rows.prompt,
        [min(expected, sampled.most_tokens)],
    )
    count = rows.count * (1 - sampled.share) + written.count
    given = rows.count * (1 - sampled.share) * sum(rows.responses)
    each = (given + written.count * sum(written.responses)) / count
    return RowCount(count, rows.prompt, [each]), written


def _decode_in_training(
    facts: Facts, work: Work, settings: ObjectiveSettings, written: RowCount
) -> None:
    """TRL's trainers sample with transformers, one micro-batch of each device together."""
    shape = facts.shape(facts.recipe.target)
    together = settings.engine.per_device_batch_size
    bound = decode_bound(
        shape,
        sequences=together if isinstance(together, int) else 1,
        context=written.each - sum(written.responses) / 2,
        bytes_per_s=facts.gpu.bandwidth_tb_s * 1e12,
    )
    work.decode(
        written.count * sum(written.responses),
        speed=min(bound, decode_speed(facts.gpu, shape.decode_billions)),
        origin="most that the memory's bandwidth or vLLM's table allow",
    )
    work.notes.append("transformers samples more slowly than the bound that is priced")


def _steps(facts: Facts, settings: Training, table: str) -> tuple[float, str]:
    """Optimizer steps, and how they are known."""
    batch = settings.global_batch_size
    most = settings.train.get("max_steps", -1)
    if isinstance(most, int) and most > 0:
        return most, f"{most:,} steps (max_steps) x {batch}"
    rows, basis = facts.rows(table)
    epochs = float(settings.train.get("num_train_epochs", EPOCHS))
    steps = max(1.0, rows * epochs / batch)
    return steps, f"{epochs:g} epochs of {rows:,} rows ({basis}), {steps:,.0f} steps x {batch}"

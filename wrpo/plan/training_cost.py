"""The work of stages that compute responses which are there: scoring, log-probs, training."""

from __future__ import annotations

from wrpo.objectives.base import ObjectiveSettings
from wrpo.pipeline.tables import ROW_RESPONSES
from wrpo.plan.evaluation_cost import ask_judge
from wrpo.plan.inputs import Facts
from wrpo.plan.memory import processes_of, scoring_memory, training_memory
from wrpo.plan.model_shape import shape_of, unknown_size
from wrpo.plan.volumes import Asked, Length
from wrpo.plan.work import EPOCHS, RowCount, UnknownPrice, Work
from wrpo.recipe import TARGET, preference
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
    shape = shape_of(network.model, revision=network.revision)
    if shape is None:
        raise UnknownPrice(
            unknown_size(network.model, f"the name of reward {name} does not tell it")
        )
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


def teacher_logits_work(facts: Facts, model: str, response: str) -> Work:
    """One pass of a teacher over one response of each triple."""
    count, basis = facts.rows("triples")
    shape = facts.shape(sampling_model(facts.recipe, TARGET if model == "sft" else model))
    prompt, responses = facts.lengths("triples", (response,))
    work = Work(facts.gpu)
    work.read(shape, RowCount(count, prompt, responses), what=f"{response} of each row ({basis})")
    tokens = round((prompt + responses[0]) * facts.recipe.teacher_logits.engine.batch_responses)
    work.memory = scoring_memory(shape, bytes_per_weight=4, tokens=tokens)
    return work


def training_work(facts: Facts, name: str) -> Work:
    """SFT, or an arm."""
    recipe = facts.recipe
    settings: Training = recipe.sft if name == "sft" else preference(recipe, name)
    table: str = "sft"
    named: tuple[str, ...] = ("completion",)
    if isinstance(settings, ObjectiveSettings):
        table, named = settings.data, settings.responses
    steps, origin = _steps(facts, settings, table)
    shape = facts.shape(recipe.target)
    prompt, responses = facts.lengths(table, named)
    rows = RowCount(steps * settings.global_batch_size, prompt, responses)
    processes = processes_of(settings)
    work = Work(facts.gpu, gpus=processes.gpus)
    work.train(shape, settings, rows, origin=origin)
    second = isinstance(settings, ObjectiveSettings) and settings.keeps_reference_model
    if second:
        work.read(shape, rows, what="reference model")
    work.memory = training_memory(
        shape, settings, row_tokens=rows.each, processes=processes, second_model=second
    )
    return work


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

"""The work of sampling a source, on one's own GPUs or on a vendor's server."""

from __future__ import annotations

from wrpo.engines.base import Capacity
from wrpo.plan.formulas import short
from wrpo.plan.inputs import Facts
from wrpo.plan.memory import sampling_memory
from wrpo.plan.work import RowCount, UnknownPrice, Work
from wrpo.recipe import TARGET
from wrpo.recipe.resolved import (
    answering_entry,
    resolved_engine,
    resolved_sampling,
    sampling_model,
)
from wrpo.recipe.revise import REVISED

RAISE_TENSOR_PARALLEL = "raise engine.tensor_parallel_size"
"""What to do where a model does not fit."""


def sampling_work(facts: Facts, source: str) -> Work:
    """All responses of a source, or of the target."""
    recipe, volumes = facts.recipe, facts.volumes
    if source in recipe.fusions:
        return _fused(facts, source)
    engine = resolved_engine(recipe, source)
    if engine.server is not None:
        return _served(facts, source)
    asked, capacity = facts.asked(source), engine.capacity
    work = Work(facts.gpu, gpus=capacity.gpus)
    prompt, response = volumes.prompt, volumes.response(source)
    written = asked.responses * response.tokens
    work.tell(
        f"{asked.prompts:,} prompts, {asked.responses:,} responses x {response.tokens:,.0f} tokens "
        f"({response.basis}) = {short(written)} response tokens"
    )
    sampling = resolved_sampling(recipe, source)
    read = RowCount(asked.prompts if capacity.shares_prompts else asked.responses, prompt.tokens)
    generate(
        facts,
        work,
        source,
        capacity,
        read=read,
        response=response.tokens,
        written=written,
        prompts_from=prompt.basis,
        longest=sampling["max_prompt_tokens"] + sampling["max_tokens"],
    )
    return work


def generate(
    facts: Facts,
    work: Work,
    source: str,
    capacity: Capacity,
    *,
    read: RowCount,
    response: float,
    written: float,
    prompts_from: str,
    longest: int,
    advice: str = RAISE_TENSOR_PARALLEL,
) -> None:
    """Adds the reading of prompts, the writing of responses, and the memory that both take.

    Args:
        read: the prompts that are computed, of their mean length.
        response: mean tokens of a response.
        written: tokens of all responses together.
        prompts_from: where the length of prompts is from.
        longest: most tokens of one sequence.
        advice: what to do where the model does not fit.
    """
    entry = sampling_model(facts.recipe, source)
    shape = facts.shape(entry)
    context = read.prompt + response / 2
    speed, origin = facts.decode_speed(work, source, shape, capacity, context=context)
    work.decode(written, speed=speed, origin=origin)
    if work.basis == "table":  # a measured speed has the reading in it
        work.read(shape, read, what=f"reading prompts ({prompts_from})")
    work.memory = sampling_memory(
        shape,
        entry,
        capacity,
        context=read.prompt + response,
        longest=longest,
        available=facts.gpu.memory_gib,
        advice=advice,
    )


def revising_work(facts: Facts, source: str) -> Work:
    """All revisions of the weak responses of a source; a gate reads them like the rewards do."""
    recipe, volumes = facts.recipe, facts.volumes
    revision, name = recipe.revise[source], f"{REVISED}{source}"
    entry = answering_entry(recipe, name)
    model = revision.by if revision.by in recipe.sources else TARGET
    engine = resolved_engine(recipe, model)
    prompt, response = volumes.prompt, volumes.response(source)
    count = round(facts.asked(source).responses * revision.share)
    read = prompt.tokens + response.tokens
    if engine.server is not None:
        price = facts.table.hosted.get(engine.served_as(entry.model))
        if price is None:
            raise UnknownPrice(f"served elsewhere; no price of {entry.model} under `hosted`")
        work = Work(facts.gpu, gpus=0, basis="hosted")
        work.pay(
            f"{count:,} revisions x ({read:,.0f} in, {response.tokens:,.0f} out): ",
            read=count * read,
            written=count * response.tokens,
            prices=(price.input, price.output),
        )
        return work
    work = Work(facts.gpu, gpus=engine.capacity.gpus)
    work.tell(f"{count:,} revisions, {revision.share:.0%} of the responses of {source}")
    generate(
        facts,
        work,
        model,
        engine.capacity,
        read=RowCount(count, read),
        response=response.tokens,
        written=count * response.tokens,
        prompts_from=prompt.basis,
        longest=round(read + response.tokens),
    )
    return work


def _fused(facts: Facts, source: str) -> Work:
    """All responses of a fusion."""
    asked, response = facts.asked(source), facts.volumes.response(source)
    work = Work(facts.gpu)
    work.tell(
        f"{asked.prompts:,} prompts, {asked.responses:,} fused responses x {response.tokens:,.0f} "
        f"tokens ({response.basis})"
    )
    fuse(
        facts, work, source, RowCount(asked.responses, facts.volumes.prompt.tokens), response.tokens
    )
    return work


def fuse(facts: Facts, work: Work, name: str, asked: RowCount, response: float) -> None:
    """Adds what the members of a fusion write, and read of what the others write.

    By segments, each member writes a whole response too, a word beyond each of the fused one's, and
    reads all offers. These are many short passes, whose price per token is that of whole ones here.
    """
    fusion = facts.recipe.fusions[name]
    capacity = resolved_engine(facts.recipe, name).capacity
    times = 2 if fusion.method == "both" else 1
    offers = len(fusion.members) * times
    for member in fusion.members:
        shape = facts.shape(sampling_model(facts.recipe, member))
        context = asked.prompt + response / 2
        speed, origin = facts.decode_speed(work, member, shape, capacity, context=context)
        work.basis = "table"
        work.decode(
            asked.count * response * times, speed=speed, origin=f"{member} writes; {origin}"
        )
        rows = RowCount(asked.count, asked.prompt, [response] * offers)
        work.read(shape, rows, what=f"{member} reads {offers} responses to each")
    work.notes.append(f"{name}: the {len(fusion.members)} models of {name} share one GPU")


def _served(facts: Facts, source: str) -> Work:
    asked = facts.asked(source)
    entry, engine = sampling_model(facts.recipe, source), resolved_engine(facts.recipe, source)
    served = engine.served_as(entry.model)
    price = facts.table.hosted.get(served)
    if price is None:
        raise UnknownPrice(f"served elsewhere; no price of {served} under `hosted`")
    work = Work(facts.gpu, gpus=0, basis="hosted")
    prompt, response = facts.volumes.prompt.tokens, facts.volumes.response(source).tokens
    work.pay(
        f"{asked.responses:,} responses x ({prompt:,.0f} in, {response:,.0f} out): ",
        read=asked.responses * prompt,
        written=asked.responses * response,
        prices=(price.input, price.output),
    )
    return work

"""The work of sampling a source, on one's own GPUs or on a vendor's server."""

from __future__ import annotations

from wrpo.pricing.facts import Facts
from wrpo.pricing.memory import sampling_memory
from wrpo.pricing.price import UnknownPrice
from wrpo.pricing.short import short
from wrpo.pricing.work import Rows, Work
from wrpo.sampling import resolved_engine, resolved_sampling, sampling_model


def sampling_work(facts: Facts, source: str) -> Work:
    """All answers of a source, or of the target."""
    recipe, volumes = facts.recipe, facts.volumes
    if resolved_engine(recipe, source).backend == "openai":
        return _served(facts, source)
    asked = facts.asked(source)
    entry, engine = sampling_model(recipe, source), resolved_engine(recipe, source)
    shape = facts.shape(entry)
    work = Work(facts.gpu, gpus=engine.gpus_per_replica)
    prompt, answer = volumes.prompt, volumes.answer(source)
    written = asked.answers * answer.tokens
    work.tell(
        f"{asked.prompts:,} prompts, {asked.answers:,} answers x {answer.tokens:,.0f} tokens "
        f"({answer.basis}) = {short(written)} answer tokens"
    )
    context = prompt.tokens + answer.tokens / 2
    speed, told = facts.decode_speed(work, source, shape, engine, context=context)
    work.decode(written, speed=speed, told=told)
    if work.basis == "table":
        rows = Rows(asked.prompts if engine.prefix_caching else asked.answers, prompt.tokens)
        work.read(shape, rows, what=f"reading prompts ({prompt.basis})")
    sampling = resolved_sampling(recipe, source)
    work.memory = sampling_memory(
        shape,
        entry,
        engine,
        context=prompt.tokens + answer.tokens,
        longest=sampling["max_prompt_tokens"] + sampling["max_tokens"],
        available=facts.gpu.memory_gib,
    )
    return work


def _served(facts: Facts, source: str) -> Work:
    asked = facts.asked(source)
    entry, engine = sampling_model(facts.recipe, source), resolved_engine(facts.recipe, source)
    served = engine.served_model or entry.model
    price = facts.table.hosted.get(served)
    if price is None:
        raise UnknownPrice(f"served elsewhere; no price of {served} under `hosted`")
    work = Work(facts.gpu, gpus=0, basis="hosted")
    prompt, answer = facts.volumes.prompt.tokens, facts.volumes.answer(source).tokens
    work.pay(
        f"{asked.answers:,} answers x ({prompt:,.0f} in, {answer:,.0f} out): ",
        read=asked.answers * prompt,
        written=asked.answers * answer,
        prices=(price.input, price.output),
    )
    return work

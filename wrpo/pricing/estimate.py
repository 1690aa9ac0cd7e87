"""The price of each stage of a run, with its arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wrpo.model_identity import model_identity
from wrpo.pricing.arithmetic import decode_bound
from wrpo.pricing.memory import (
    Memory,
    processes_of,
    sampling_memory,
    scoring_memory,
    training_memory,
)
from wrpo.pricing.shapes import Shape, shape_of
from wrpo.pricing.throughput import GPU, Measured, Table, decode_speed
from wrpo.pricing.volumes import Asked, Volumes
from wrpo.pricing.work import EPOCHS, Rows, Work, short
from wrpo.recipe import TARGET, Model, Recipe, preference
from wrpo.recipe.prompt_sections import dataset_answers
from wrpo.recipe.reward_sections import ModelReward
from wrpo.recipe.sampling_sections import Engine
from wrpo.recipe.training_sections import Preference, Training
from wrpo.sampling import resolved_engine, resolved_sampling, sampling_model
from wrpo.stages import Pipeline, training_table
from wrpo.status import stage_status

_LIGHT = ("prompts", "build", "report")
NO_PROMPTS = "number of prompts unknown: run `make prompts`, or write prompts.expected_prompts"
NO_ROWS = "number of rows unknown until the table is built"
NO_SIZE = "size of {} unknown: write its parameters_b"


@dataclass(frozen=True)
class Estimate:
    """The whole stage, and the share of it that is left; None is not known.

    Attributes:
        tokens: read and written.
        gpu_hours: of all GPUs together.
        hours: wall time on `gpus` GPUs.
        left: share that is still to do, 0 when done.
        basis: what the speed is from.
        arithmetic: the lines that `plan --explain` shows.
        unknown: why there is no price.
    """

    stage: str
    tokens: float | None = None
    gpus: int = 0
    gpu_hours: float | None = None
    dollars: float | None = None
    hours: float | None = None
    memory: Memory | None = None
    left: float = 1.0
    basis: str = ""
    arithmetic: tuple[str, ...] = ()
    unknown: str = ""


class _Unknown(Exception):
    """Something that a price needs is not known; the message says what."""


class Estimator:
    """Prices the stages of one recipe for one kind of GPU."""

    def __init__(
        self, pipeline: Pipeline, table: Table, measured: Sequence[Measured], *, kind: str
    ) -> None:
        self.pipeline = pipeline
        self.recipe: Recipe = pipeline.recipe
        self.table = table
        self.measured = measured
        self.kind = kind
        self.gpu: GPU = table.gpus[kind]
        self.volumes = Volumes(pipeline, table.lengths)

    def stage(self, name: str) -> Estimate:
        """One stage."""
        left = self._left(name)
        kind, _, rest = name.partition("/")
        if kind in _LIGHT:
            return Estimate(name, gpu_hours=0.0, dollars=0.0, left=left)
        if kind == "eval":
            return Estimate(name, unknown="depends on the benchmarks", left=left)
        try:
            if kind == "sample" and rest in dataset_answers(self.recipe.prompts):
                return Estimate(name, gpu_hours=0.0, dollars=0.0, left=left)
            if kind == "sample" and resolved_engine(self.recipe, rest).backend == "openai":
                return self._served(name, rest, left)
            return self._priced(name, self._work(name), left)
        except _Unknown as unknown:
            return Estimate(name, unknown=str(unknown), left=left)

    def _work(self, name: str) -> Work:
        kind, _, rest = name.partition("/")
        if kind == "sample":
            return self._sampling(rest)
        if kind == "score":
            return self._scoring(rest)
        if kind == "logprobs":
            return self._logprobs(*rest.split("/"))
        return self._training(name)

    def _priced(self, name: str, work: Work, left: float) -> Estimate:
        gpu_hours = work.seconds / 3600
        price = self.gpu.price_per_hour
        dollars, hours = gpu_hours * price, gpu_hours / work.gpus
        total = f"{gpu_hours:,.2f} GPU hours x ${price:g} = ${dollars:,.2f}; {hours:,.2f} hours"
        lines = [*work.lines, f"{total} on {work.gpus} {self.kind}"]
        if work.memory:
            lines.append(work.memory.text())
        return Estimate(
            name,
            tokens=work.tokens,
            gpus=work.gpus,
            gpu_hours=gpu_hours,
            dollars=dollars,
            hours=hours,
            memory=work.memory,
            left=left,
            basis=work.basis,
            arithmetic=tuple(lines),
        )

    def _left(self, name: str) -> float:
        status = stage_status(self.pipeline, name)
        if status.state == "done":
            return 0.0
        return 1.0 - min(1.0, status.done / status.total) if status.done and status.total else 1.0

    # ---- sampling -------------------------------------------------------------------------------

    def _asked(self, source: str) -> Asked:
        asked = self.volumes.asked(source)
        if asked is None:
            raise _Unknown(NO_PROMPTS)
        return asked

    def _sampling(self, source: str) -> Work:
        asked = self._asked(source)
        entry, engine = sampling_model(self.recipe, source), resolved_engine(self.recipe, source)
        shape = self._shape(entry)
        work = Work(self.gpu, gpus=engine.gpus_per_replica)
        prompt, answer = self.volumes.prompt, self.volumes.answer(source)
        written = asked.answers * answer.tokens
        work.lines.append(
            f"{asked.prompts:,} prompts, {asked.answers:,} answers x {answer.tokens:,.0f} tokens "
            f"({answer.basis}) = {short(written)} answer tokens"
        )
        context = prompt.tokens + answer.tokens / 2
        speed, told = self._decode_speed(work, source, shape, engine, context=context)
        work.decode(written, speed=speed, told=told)
        if work.basis == "table":
            rows = Rows(asked.prompts if engine.prefix_caching else asked.answers, prompt.tokens)
            work.read(shape, rows, what=f"reading prompts ({prompt.basis})")
        sampling = resolved_sampling(self.recipe, source)
        work.memory = sampling_memory(
            shape,
            entry,
            engine,
            context=prompt.tokens + answer.tokens,
            longest=sampling["max_prompt_tokens"] + sampling["max_tokens"],
            available=self.gpu.memory_gib,
        )
        return work

    def _decode_speed(
        self, work: Work, source: str, shape: Shape, engine: Engine, *, context: float
    ) -> tuple[float, str]:
        """Answer tokens per second and GPU, and where that is from."""
        row = self._measured_row(source, work.gpus)
        if row:
            work.basis = "measured"
            told = f"measured over {row.seconds:,.0f} s, prompts included"
            return row.decode_tokens_per_s, told
        bandwidth = self.gpu.bandwidth_tb_s * 1e12
        bound = decode_bound(
            shape, sequences=engine.max_num_seqs, context=context, bytes_per_s=bandwidth
        )
        size = shape.decode_billions
        speed = min(decode_speed(self.gpu, size), bound)
        told = f"table for {size:,.3g}B, {shape.basis}; the memory's bandwidth allows {bound:,.0f}"
        return speed, told

    def _measured_row(self, source: str, gpus: int) -> Measured | None:
        name = measured_name(self.recipe, source)
        rows = [
            row
            for row in self.measured
            if row.model == name and self.table.kind_of(row.gpu) == self.kind
        ]
        return min(rows, key=lambda row: abs(row.gpus - gpus), default=None)

    def _served(self, name: str, source: str, left: float) -> Estimate:
        asked = self._asked(source)
        entry, engine = sampling_model(self.recipe, source), resolved_engine(self.recipe, source)
        read = asked.answers * self.volumes.prompt.tokens
        written = asked.answers * self.volumes.answer(source).tokens
        served = engine.served_model or entry.model
        price = self.table.hosted.get(served)
        if price is None:
            why = f"served elsewhere; no price of {served} under `hosted`"
            return Estimate(name, tokens=read + written, unknown=why, left=left)
        dollars = (read * price.input + written * price.output) / 1e6
        line = (
            f"{short(read)} tokens in x ${price.input:g} + {short(written)} tokens out x "
            f"${price.output:g} per million = ${dollars:,.2f}"
        )
        return Estimate(
            name,
            tokens=read + written,
            gpu_hours=0.0,
            dollars=dollars,
            left=left,
            basis="hosted",
            arithmetic=(line,),
        )

    # ---- forward passes -------------------------------------------------------------------------

    def _scoring(self, source: str) -> Work:
        asked = self._asked(source)
        work = Work(self.gpu)
        prompt, answer = self.volumes.prompt, self.volumes.answer(source)
        each, rest = divmod(asked.answers / max(asked.prompts, 1), 1)
        answers = [answer.tokens] * int(each) + [answer.tokens * rest] * (rest > 0)
        rows = Rows(asked.prompts, prompt.tokens, answers)
        for name, reward in self.recipe.rewards.items():
            if not isinstance(reward, ModelReward):
                continue
            shape = shape_of(reward.model, revision=reward.revision)
            if shape is None:
                raise _Unknown(f"size of reward {name} unknown: its name does not tell it")
            what = f"{name}, {asked.answers:,} answers ({answer.basis}) behind their prompts"
            work.read(shape, rows, what=what)
            memory = scoring_memory(
                shape,
                bytes_per_weight=4.0 if reward.dtype == "float32" else 2.0,
                tokens=reward.engine.batch_tokens,
            )
            if work.memory is None or memory.total > work.memory.total:
                work.memory = memory
        return work

    def _logprobs(self, model: str, rows_name: str) -> Work:
        count, basis = self._rows("triples" if rows_name == "anchors" else rows_name)
        shape = self._shape(sampling_model(self.recipe, TARGET if model == "sft" else model))
        prompt, answers = self._lengths(rows_name)
        work = Work(self.gpu)
        what = f"{len(answers)} answers behind each prompt ({basis})"
        work.read(shape, Rows(count, prompt, answers), what=what)
        tokens = self.recipe.logprobs.engine.batch_tokens
        work.memory = scoring_memory(shape, bytes_per_weight=4, tokens=tokens)
        return work

    # ---- training -------------------------------------------------------------------------------

    def _training(self, name: str) -> Work:
        settings: Training = self.recipe.sft if name == "sft" else preference(self.recipe, name)
        table = "sft" if name == "sft" else training_table(self.recipe, name).split("/")[1]
        steps, told = self._steps(settings, table)
        shape = self._shape(self.recipe.target)
        prompt, answers = self._lengths(_trained_answers(settings))
        rows = Rows(steps * settings.global_batch_size, prompt, answers)
        processes = processes_of(settings)
        work = Work(self.gpu, gpus=processes.gpus)
        work.train(shape, settings, rows, told=told)
        second = isinstance(settings, Preference) and settings.reference == "model"
        if second:
            work.read(shape, rows, what="reference model")
        work.memory = training_memory(
            shape, settings, row_tokens=rows.each, processes=processes, second_model=second
        )
        return work

    def _steps(self, settings: Training, table: str) -> tuple[float, str]:
        """Optimizer steps, and how they are known."""
        batch = settings.global_batch_size
        most = settings.train.get("max_steps", -1)
        if isinstance(most, int) and most > 0:
            return most, f"{most:,} steps (max_steps) x {batch}"
        rows, basis = self._rows(table)
        epochs = float(settings.train.get("num_train_epochs", EPOCHS))
        steps = max(1.0, rows * epochs / batch)
        return steps, f"{epochs:g} epochs of {rows:,} rows ({basis}), {steps:,.0f} steps x {batch}"

    def _rows(self, table: str) -> tuple[int, str]:
        count, basis = self.volumes.rows(table)
        if count is None:
            raise _Unknown(NO_ROWS if self.recipe.build.imported.tables() else NO_PROMPTS)
        return count, basis

    def _lengths(self, answers: str) -> tuple[float, list[float]]:
        """Tokens of a prompt and of each answer, as truncation leaves them."""
        source, target = self.volumes.source_answer().tokens, self.volumes.answer(TARGET).tokens
        wanted = {
            "sft": [source],
            "triples": [source, target, target],
            "chosen": [target, target],
            "pairs": [source, source],
            "anchors": [target],
            "cgpo": [source, target, target, target],
        }[answers]
        limits = self.recipe.truncation
        prompt = min(self.volumes.prompt.tokens, limits.max_prompt_length or limits.max_length)
        return prompt, [min(answer, limits.max_length - prompt) for answer in wanted]

    def _shape(self, entry: Model) -> Shape:
        shape = shape_of(
            entry.model,
            revision=entry.revision,
            parameters_b=entry.parameters_b,
            active_b=entry.active_parameters_b,
        )
        if shape is None:
            raise _Unknown(NO_SIZE.format(entry.model))
        return shape


def measured_name(recipe: Recipe, source: str) -> str:
    """How a measured row calls the model of a source, or the fine-tuned target."""
    entry = sampling_model(recipe, source)
    name = model_identity(entry.model, entry.revision)
    return f"{name} after sft" if source == TARGET else name


def _trained_answers(settings: Training) -> str:
    """Which answers of a row a training stage reads."""
    if not isinstance(settings, Preference) or settings.objective == "sft":
        return "sft"
    if settings.objective == "dpo":
        return "pairs" if settings.data == "pairs" else "chosen"
    return "cgpo" if settings.objective == "cgpo" else "triples"

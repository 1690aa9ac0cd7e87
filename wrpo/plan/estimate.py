"""The price of each stage of a run: which work it is, how much of it is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.status import StageStatus, stage_status
from wrpo.plan.evaluation_cost import benchmark_work, judged_responses_work, verdicts_work
from wrpo.plan.inputs import Facts
from wrpo.plan.sampling_cost import revising_work, sampling_work
from wrpo.plan.throughput import Measured, ThroughputTable
from wrpo.plan.training_cost import (
    arm_work,
    exam_work,
    exploring_work,
    logprobs_work,
    pruning_work,
    scoring_work,
    sft_work,
    teacher_logits_work,
)
from wrpo.plan.work import StageEstimate, UnknownPrice, Work
from wrpo.recipe.prompts import dataset_responses


class Estimator:
    """Prices the stages of one recipe for one kind of GPU."""

    def __init__(
        self, pipeline: Pipeline, table: ThroughputTable, measured: Sequence[Measured], *, kind: str
    ) -> None:
        self.pipeline = pipeline
        self.kind = kind
        self._facts = Facts(pipeline, table, measured, kind)

    def stage(self, name: str, status: StageStatus | None = None) -> StageEstimate:
        """One stage; `status`: where it is known already."""
        left = share_left(status or stage_status(self.pipeline, name))
        try:
            work = self._work(name)
        except UnknownPrice as unknown:
            return StageEstimate(name, unknown=str(unknown), left=left)
        if work is None:
            return StageEstimate(name, left=left)
        estimate = StageEstimate(
            name,
            tokens=work.tokens,
            gpus=work.gpus,
            gpu_price=self._facts.gpu.price_per_hour,
            memory=work.memory,
            left=left,
            basis=work.basis,
            terms=tuple(work.terms),
        )
        note = "; ".join(work.notes)
        priced = any(term.gpu_hours is not None or term.dollars is not None for term in work.terms)
        return (
            replace(estimate, note=note) if priced or not note else replace(estimate, unknown=note)
        )

    def _work(self, name: str) -> Work | None:
        """None for stages that need neither GPU nor vendor."""
        facts = self._facts
        stage = self.pipeline[name]
        args = stage.args
        match stage.kind:
            case "prompts" | "build" | "merge" | "report":
                return None
            case "explore":
                return exploring_work(facts, args["dataset"])
            case "sample":
                given = args["source"] in dataset_responses(facts.recipe.prompts)
                return None if given else sampling_work(facts, args["source"])
            case "revise":
                return revising_work(facts, args["source"])
            case "score":
                return scoring_work(facts, args["source"])
            case "prune":
                return pruning_work(facts)
            case "consistency":
                return exam_work(facts)
            case "logprobs":
                return logprobs_work(facts, args["model"], args["rows"])
            case "teacher_logits":
                return teacher_logits_work(facts, args["model"], args["response"])
            case "eval":
                return benchmark_work(facts, args["model"])
            case "responses":
                return judged_responses_work(facts, args["benchmark"], args["model"])
            case "judge":
                return verdicts_work(facts, args["benchmark"])
            case "sft":
                return sft_work(facts)
            case "train":
                return arm_work(facts, name)


def share_left(status: StageStatus) -> float:
    """Share of a stage that is still to do; 0 when done, 1 when stale."""
    if status.state == "done":
        return 0.0
    if status.state != "partial" or not status.done or not status.total:
        return 1.0
    return 1.0 - min(1.0, status.done / status.total)

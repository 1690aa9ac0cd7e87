"""The preference stage: WRPO, or a baseline (`--arm`) on the same rows, from the SFT model.

Reads:   RUN/build/triples or pairs, RUN/sft/model, RUN/logprobs/... where the objective needs them
Writes:  RUN/ARM/model, RUN/ARM/log_history.json, RUN/ARM/checkpoints; while it runs
         RUN/ARM/metrics.jsonl
Run:     python -m wrpo.train --recipe recipes/demo.yaml
         --arm dpo trains another arm of the recipe
Resume:  the same command again goes on from the last checkpoint
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from wrpo.cli import parse_stage, run_main, stage_parser
from wrpo.errors import DataError
from wrpo.objectives.options import LENGTH_NORMALISED
from wrpo.objectives.reference import (
    by_answer,
    with_anchors,
    with_consensus,
    with_fused_reference,
    with_reference,
)
from wrpo.pipeline.parts import StageWork
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import ANSWERS, BUILT, Row, read_rows
from wrpo.pipeline.training_stages import scored_rows
from wrpo.recipe import Preference, Recipe, preference
from wrpo.training.common import (
    load_policy,
    load_target_tokenizer,
    lora_config,
    make_config,
    open_training,
    train_and_save,
    trl_arguments,
)
from wrpo.training.launch import leave_process_group, relaunch_under_accelerate


def train_arm(recipe: Recipe, arm: str) -> None:
    """Trains one arm."""
    pipeline = Pipeline(recipe)
    settings = preference(recipe, arm)
    inputs = {name: pipeline.finished(name) for name in pipeline[arm].inputs}
    with open_training(pipeline, arm) as work:
        if work.complete:
            return
        rows = read_rows(inputs[f"build/{settings.data}"], BUILT[settings.data])
        model = str(inputs["sft"] / "model")
        if settings.objective == "sft":
            _train_sft(recipe, settings, model, rows=rows, work=work)
            return
        rows = _with_reference(recipe, arm, rows, inputs)
        _train_preference(recipe, settings, model, rows=rows, work=work)


def _with_reference(
    recipe: Recipe, arm: str, rows: list[Row], inputs: dict[str, Path]
) -> list[Row]:
    """Rows with the columns of the reference that the arm asks for, if it reads any."""
    needed = scored_rows(recipe, arm)
    if not needed:
        return rows
    settings = preference(recipe, arm)
    answers = ANSWERS[settings.data]
    initial: dict[str, Row] = {}
    sources: dict[str, dict[str, Row]] = {}
    for model, kind in needed:
        table = by_answer(read_rows(inputs[f"logprobs/{model}/{kind}"]))
        if model == "sft":
            initial |= table
        else:
            sources[model] = table
    if settings.objective == "cgpo":
        rows = with_consensus(rows, initial, sources, answers=answers, settings=settings.cgpo)
        return with_reference(with_anchors(rows), initial, answers=["anchor"])
    if settings.reference == "precomputed":
        return with_reference(rows, initial, answers=answers)
    return with_fused_reference(
        rows,
        initial,
        sources,
        answers=answers,
        fusion=settings.fusion,
        length_normalised=settings.loss in LENGTH_NORMALISED,
    )


def _train_sft(
    recipe: Recipe, settings: Preference, model: str, *, rows: list[Row], work: StageWork
) -> None:
    """The control that spends the same steps on supervised learning."""
    from wrpo.train_sft import run_sft

    samples = [(row["prompt"], row[_sft_answer(row, settings)][0]["content"]) for row in rows]
    run_sft(recipe, settings, model, samples=samples, work=work)


def _sft_answer(row: Row, settings: Preference) -> str:
    if settings.sft_on != "better":
        return settings.sft_on
    if row["source_chosen_score"] is None or row["chosen_score"] is None:
        raise DataError(f"row {row['triple_id']} has no scores; sft_on: better compares them")
    better = row["source_chosen_score"] > row["chosen_score"]
    return "source_chosen" if better else "chosen"


def _train_preference(
    recipe: Recipe, settings: Preference, model: str, *, rows: list[Row], work: StageWork
) -> None:
    from datasets import Dataset

    from wrpo import WRPOConfig, WRPOTrainer

    arguments = trl_arguments(settings, seed=recipe.seed, output=work.path)
    arguments |= _objective(settings)
    arguments |= recipe.truncation.model_dump(exclude={"mode"})
    arguments["truncation"] = recipe.truncation.mode
    arguments["fold_system"] = recipe.target.fold_system
    args = make_config(WRPOConfig, arguments, where=f"{work.path.name}.train")
    load = partial(load_policy, model, recipe.target, attention=settings.engine.attention)
    trainer = WRPOTrainer(
        model=load(quantize=settings.lora.quantize if settings.lora else None),
        args=args,
        train_dataset=Dataset.from_list(rows),
        processing_class=load_target_tokenizer(model, recipe.target),
        peft_config=lora_config(settings.lora),
    )
    train_and_save(trainer, work, rows=len(rows), load_base=load)


def _objective(settings: Preference) -> dict[str, Any]:
    """The recipe's own fields in WRPOConfig's names."""
    return {
        "objective": settings.objective,
        "beta": settings.beta,
        "alpha": settings.alpha.end,
        "alpha_start": settings.alpha.start,
        "alpha_schedule": settings.alpha.schedule,
        "likelihood_weight": settings.likelihood.weight,
        "likelihood_on": settings.likelihood.on,
        "desirable_weight": settings.cgpo.desirable_weight,
        "undesirable_weight": settings.cgpo.undesirable_weight,
        "undesirable_warmup_start": settings.cgpo.warmup_start,
        "undesirable_warmup_steps": settings.cgpo.warmup_steps,
        **_loss(settings),
        "balance_micro_batches": settings.engine.balance_micro_batches,
    }


def _loss(settings: Preference) -> dict[str, Any]:
    if settings.objective == "cgpo":  # it has one loss of its own
        return {}
    return {
        "loss_type": settings.loss,
        "margin": settings.margin,
        "label_smoothing": settings.label_smoothing,
        "reference_free": settings.reference == "none",
    }


def main() -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("--arm", default="wrpo", help="wrpo, or a name under `arms:`")
    args, recipe = parse_stage(parser)
    relaunch_under_accelerate(preference(recipe, args.arm).engine, "wrpo.train")
    train_arm(recipe, args.arm)
    leave_process_group()


if __name__ == "__main__":
    run_main(main)

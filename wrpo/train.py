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

from wrpo.cli import parse_stage, run_main, stage_parser
from wrpo.distillation.settings import TeacherSettings
from wrpo.objectives.base import ObjectiveSettings
from wrpo.objectives.reference import (
    rows_by_response_id,
)
from wrpo.objectives.sft import SFTSettings
from wrpo.pipeline.parts import StageWork
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import BUILT, TEACHER_LOGITS, Row, read_rows
from wrpo.pipeline.training_stages import scored_rows
from wrpo.recipe import Recipe, preference
from wrpo.training.common import (
    load_policy,
    load_target_tokenizer,
    lora_config,
    micro_batch_tokens,
    open_training,
    train_and_save,
    trl_arguments,
)
from wrpo.training.launch import leave_process_group, relaunch_under_accelerate
from wrpo.training.trl_config import make_config, refusals
from wrpo.trl_arms.settings import TRLSettings


def train_arm(recipe: Recipe, arm: str) -> None:
    """Trains one arm."""
    if arm in recipe.fused_models:
        recipe = recipe.in_round(recipe.fused_models.index(arm) + 1)
    pipeline = Pipeline(recipe)
    settings = preference(recipe, arm)
    inputs = {name: pipeline.finished(name) for name in pipeline[arm].inputs}
    with open_training(pipeline, arm) as work:
        if work.complete:
            return
        rows = read_rows(inputs[f"build/{settings.data}"], BUILT[settings.data])
        model = str(inputs["sft"] / "model")
        if isinstance(settings, SFTSettings):
            own = settings.rows_to_train(rows)
            _train_sft(recipe, settings, model, rows=own, work=work)
            return
        if isinstance(settings, TRLSettings):
            from wrpo.training.by_trl import run_by_trl

            own = settings.rows_to_train(rows)
            run_by_trl(pipeline, settings, model, rows=own, work=work)
            return
        if isinstance(settings, TeacherSettings):
            _train_with_teachers(pipeline, settings, model, rows=rows, work=work)
            return
        tables = {
            (name, kind): rows_by_response_id(read_rows(inputs[f"logprobs/{name}/{kind}"]))
            for name, kind in scored_rows(recipe, arm)
        }
        rows = settings.rows_to_train(settings.with_reference(rows, tables))
        _train_preference(recipe, settings, model, rows=rows, work=work)


def _train_sft(
    recipe: Recipe, settings: SFTSettings, model: str, *, rows: list[Row], work: StageWork
) -> None:
    """The control that spends the same steps on supervised learning."""
    from wrpo.train_sft import run_sft, sample_of

    samples = [sample_of(row, settings.trained_on(row)) for row in rows]
    run_sft(recipe, settings, model, samples=samples, work=work)


def _train_with_teachers(
    pipeline: Pipeline, settings: TeacherSettings, model: str, *, rows: list[Row], work: StageWork
) -> None:
    """Explicit fusion and distillation, from stored distributions."""
    from wrpo.training.with_teachers import run_with_teachers

    tables = {
        place: rows_by_response_id(read_rows(pipeline.finished(place.stage), TEACHER_LOGITS))
        for place in settings.logit_tables(list(pipeline.recipe.sources))
    }
    own = settings.rows_to_train(rows)
    run_with_teachers(pipeline.recipe, settings, model, rows=own, tables=tables, work=work)


def _train_preference(
    recipe: Recipe, settings: ObjectiveSettings, model: str, *, rows: list[Row], work: StageWork
) -> None:
    from datasets import Dataset

    from wrpo import WRPOConfig, WRPOTrainer

    arguments = trl_arguments(settings, seed=recipe.seed, output=work.path)
    arguments["objective"] = settings
    arguments["micro_batch_tokens"] = micro_batch_tokens(settings)
    arguments["balance_micro_batches"] = settings.engine.balance_micro_batches
    arguments |= recipe.truncation.model_dump(exclude={"mode"})
    arguments["truncation"] = recipe.truncation.mode
    arguments["fold_system"] = recipe.target.fold_system
    args = make_config(WRPOConfig, arguments, where=f"{work.path.name}.train")
    load = partial(load_policy, model, recipe.target, attention=settings.engine.attention)
    policy = load(quantize=settings.lora.quantize if settings.lora else None)
    with refusals(f"{work.path.name}.train"):
        trainer = WRPOTrainer(
            model=policy,
            args=args,
            train_dataset=Dataset.from_list(rows),
            processing_class=load_target_tokenizer(model, recipe.target),
            peft_config=lora_config(settings.lora),
        )
    train_and_save(trainer, work, rows=len(rows), load_base=load)


def main() -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("--arm", default="wrpo", help="wrpo, wrpo-round-N, or a name under `arms:`")
    args, recipe = parse_stage(parser)
    relaunch_under_accelerate(preference(recipe, args.arm).engine, "wrpo.train")
    train_arm(recipe, args.arm)
    leave_process_group()


if __name__ == "__main__":
    run_main(main)

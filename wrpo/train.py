"""The preference stage: WRPO, or a baseline (`--arm`) on the same rows, from the SFT model.

Reads:   RUN/build/triples or pairs, RUN/sft/model, RUN/reference/... when log-probs are precomputed
Writes:  RUN/ARM/model, RUN/ARM/log_history.json, RUN/ARM/checkpoints
Run:     python -m wrpo.train --recipe recipes/demo.yaml
         --arm dpo trains another arm of the recipe
Resume:  the same command again goes on from the last checkpoint
"""

from __future__ import annotations

import logging
from typing import Any

from wrpo.cli import parse_stage, run_main, stage_parser
from wrpo.errors import DataError
from wrpo.launch import relaunch_under_accelerate
from wrpo.recipe import Preference, Recipe, preference
from wrpo.stage_folder import StageFolder
from wrpo.stages import Pipeline, training_table
from wrpo.tables import Row, read_rows

logger = logging.getLogger(__name__)

ANSWERS = {"triples": ("source_chosen", "chosen", "rejected"), "pairs": ("chosen", "rejected")}


def train_arm(recipe: Recipe, arm: str) -> None:
    """Trains one arm."""
    pipeline = Pipeline(recipe)
    settings = preference(recipe, arm)
    folder = StageFolder(pipeline.folder(arm), pipeline.key(arm))
    inputs = {name: pipeline.finished(name) for name in pipeline[arm].inputs}
    if folder.open():
        logger.info("%s: complete, nothing to do (%s)", arm, folder.path)
        return
    rows = read_rows(inputs[training_table(recipe, arm)])
    model = str(inputs["sft"] / "model")
    if settings.objective == "sft":
        _train_sft(recipe, settings, model, rows=rows, folder=folder)
        return
    reference = inputs.get(f"reference/{settings.data}")
    if reference is not None:
        rows = with_reference(rows, read_rows(reference), answers=ANSWERS[settings.data])
    _train_preference(recipe, settings, model, rows=rows, folder=folder)


def with_reference(rows: list[Row], reference: list[Row], *, answers: tuple[str, ...]) -> list[Row]:
    """Joins reference log-probs to rows by triple_id.

    Raises:
        DataError: a row has none.
    """
    known = {row["triple_id"]: row for row in reference}
    missing = [row["triple_id"] for row in rows if row["triple_id"] not in known]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(rows)} rows have no reference log-probs, e.g. {missing[0]}; "
            "delete the reference folder and make it again"
        )
    columns = [f"ref_{name}_{what}" for name in answers for what in ("logps", "length")]
    return [{**row, **{c: known[row["triple_id"]][c] for c in columns}} for row in rows]


def _train_sft(
    recipe: Recipe, settings: Preference, model: str, *, rows: list[Row], folder: StageFolder
) -> None:
    """The control that spends the same steps on supervised learning."""
    from wrpo.train_sft import run_sft

    samples = [(row["prompt"], row[_sft_answer(row, settings)][0]["content"]) for row in rows]
    run_sft(recipe, settings, model, samples=samples, folder=folder)


def _sft_answer(row: Row, settings: Preference) -> str:
    if settings.sft_on != "better":
        return settings.sft_on
    better = row["source_chosen_score"] > row["chosen_score"]
    return "source_chosen" if better else "chosen"


def _train_preference(
    recipe: Recipe, settings: Preference, model: str, *, rows: list[Row], folder: StageFolder
) -> None:
    from datasets import Dataset

    from wrpo import WRPOConfig, WRPOTrainer
    from wrpo.training import (
        load_policy,
        load_target_tokenizer,
        lora_config,
        make_config,
        train_and_save,
        trl_arguments,
    )

    arguments = trl_arguments(settings, seed=recipe.seed, output=folder.path)
    arguments |= _objective(settings)
    arguments |= recipe.truncation.model_dump(exclude={"mode"})
    arguments["truncation"] = recipe.truncation.mode
    arguments["fold_system"] = recipe.target.fold_system
    args = make_config(WRPOConfig, arguments, where=f"{folder.path.name}.train")
    trainer = WRPOTrainer(
        model=load_policy(model, recipe.target, attention=settings.engine.attention),
        args=args,
        train_dataset=Dataset.from_list(rows),
        processing_class=load_target_tokenizer(model, recipe.target),
        peft_config=lora_config(settings.lora),
    )
    train_and_save(trainer, folder, rows=len(rows))


def _objective(settings: Preference) -> dict[str, Any]:
    """The recipe's own fields in WRPOConfig's names."""
    return {
        "objective": settings.objective,
        "beta": settings.beta,
        "label_smoothing": settings.label_smoothing,
        "alpha": settings.alpha.end,
        "alpha_schedule": settings.alpha.schedule,
        "likelihood_weight": settings.likelihood.weight,
        "likelihood_on": settings.likelihood.on,
    }


def main() -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("--arm", default="wrpo", help="wrpo, or a name under `arms:`")
    args, recipe = parse_stage(parser)
    relaunch_under_accelerate(preference(recipe, args.arm).engine, "wrpo.train")
    train_arm(recipe, args.arm)


if __name__ == "__main__":
    run_main(main)

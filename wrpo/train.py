"""The preference stage: WRPO, or a baseline (`--arm`) on the same rows, from the SFT model.

Reads:   RUN/build/triples or pairs, RUN/sft/model, RUN/logprobs/... where the objective needs them
Writes:  RUN/ARM/model, RUN/ARM/log_history.json, RUN/ARM/checkpoints; while it runs
         RUN/ARM/metrics.jsonl
Run:     python -m wrpo.train --recipe recipes/demo.yaml
         --arm dpo trains another arm of the recipe
Resume:  the same command again goes on from the last checkpoint
"""

from __future__ import annotations

from wrpo.cli import parse_stage, run_main, stage_parser
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import BUILT, read_rows
from wrpo.recipe import Recipe, preference
from wrpo.training.arm import Arm, trainer_of
from wrpo.training.common import open_training, warn_of_many_passes
from wrpo.training.launch import leave_process_group, relaunch_under_accelerate


def train_arm(recipe: Recipe, arm: str) -> None:
    """Trains one arm, by what its objective names."""
    if arm in recipe.fused_models:
        recipe = recipe.in_round(recipe.fused_models.index(arm) + 1)
    pipeline = Pipeline(recipe)
    settings = preference(recipe, arm)
    inputs = {name: pipeline.finished(name) for name in pipeline[arm].inputs}
    with open_training(pipeline, arm) as work:
        if work.complete:
            return
        rows = read_rows(inputs[f"build/{settings.data}"], BUILT[settings.data])
        warn_of_many_passes(settings, len(rows), where=arm)
        trainer_of(settings)(settings, Arm(pipeline, arm, rows, inputs, work))


def main() -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("--arm", default="wrpo", help="wrpo, wrpo-round-N, or a name under `arms:`")
    args, recipe = parse_stage(parser)
    relaunch_under_accelerate(preference(recipe, args.arm).engine, "wrpo.train")
    train_arm(recipe, args.arm)
    leave_process_group()


if __name__ == "__main__":
    run_main(main)

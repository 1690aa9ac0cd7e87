"""Merges trained models of a run into one, tensor by tensor.

Reads:   RUN/ARM/model of the models that `merges.NAME` names, and of its base
Writes:  RUN/NAME/model
Run:     python -m wrpo.merge --name NAME --recipe RECIPE
Resume:  starts again; a merge reads and writes each weight once
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from wrpo.cli import parse_stage, run_main, stage_parser
from wrpo.errors import ModelError, RecipeError
from wrpo.merging.base import MergeSettings
from wrpo.merging.shared.weights import Weights, require_same_tensors, write_like
from wrpo.pipeline.integrity import MODEL
from wrpo.pipeline.parts import open_stage
from wrpo.pipeline.pipeline import Pipeline
from wrpo.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)


def run_merge(recipe: Recipe, name: str) -> None:
    """Runs the stage."""
    from wrpo.training.model_card import complete_model_folder

    pipeline = Pipeline(recipe)
    settings = recipe.merges[name]
    models = {input_: pipeline.finished(input_) / MODEL for input_ in settings.inputs}
    with open_stage(pipeline, name) as work:
        if work.complete:
            return
        output = work.path / MODEL
        work.facts["tensors"] = merge_models(
            settings, models[settings.base], [models[one] for one in settings.models], output
        )
        complete_model_folder(output, recipe, name, facts=work.facts)
    logger.info("%s: %d tensors of %s", name, work.facts["tensors"], ", ".join(settings.models))


def merge_models(settings: MergeSettings, base: Path, models: list[Path], output: Path) -> int:
    """Merges model folders into a new one, which has the files and types of the base.

    In memory are one tensor of each model and the merged one; half precision is merged in float32.

    Returns:
        How many tensors.

    Raises:
        ModelError: the models have not the same tensors.
    """
    from tqdm import tqdm

    with ExitStack() as opened:
        first = Weights(base, opened)
        others = [Weights(folder, opened) for folder in models]
        for other in others:
            require_same_tensors(first, other)
        bar = opened.enter_context(
            tqdm(total=len(first.names), unit="tensor", desc=output.parent.name)
        )

        def make(name: str) -> Tensor:
            bar.update()
            return merge_tensor(settings, first[name], [other[name] for other in others], name=name)

        return write_like(first, output, make)


def merge_tensor(
    settings: MergeSettings, base: Tensor, models: list[Tensor], *, name: str
) -> Tensor:
    """One tensor, in the type of the base's.

    Raises:
        ModelError: it holds no real numbers, and differs between models.
    """
    import torch

    if not base.is_floating_point():
        if any(not torch.equal(base, model) for model in models):
            raise ModelError(f"{name} holds {base.dtype}, and the models differ in it: no merge")
        return base
    precision = torch.promote_types(base.dtype, torch.float32)
    merged = settings.merge(base.to(precision), [model.to(precision) for model in models])
    return merged.to(base.dtype)


def main() -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("--name", required=True, help="a name under `merges:`")
    args, recipe = parse_stage(parser)
    if args.name not in recipe.merges:
        known = ", ".join(recipe.merges) or "none"
        raise RecipeError(f'no merge "{args.name}" in recipe {recipe.run}; merges: {known}')
    run_merge(recipe, args.name)


if __name__ == "__main__":
    run_main(main)

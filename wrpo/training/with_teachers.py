"""The training stage of objectives that learn from stored distributions of teachers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from wrpo.distillation.settings import STUDENT, TeacherSettings
from wrpo.pipeline.parts import StageWork
from wrpo.pipeline.tables import Row
from wrpo.recipe import Recipe
from wrpo.recipe.resolved import sampling_model
from wrpo.training.common import (
    load_policy,
    load_target_tokenizer,
    lora_config,
    train_and_save,
    trl_arguments,
)
from wrpo.training.trl_config import make_config, refusals

if TYPE_CHECKING:
    from wrpo.distillation.rows import LogitTables


def run_with_teachers(
    recipe: Recipe,
    settings: TeacherSettings,
    model: str,
    *,
    rows: list[Row],
    tables: LogitTables,
    work: StageWork,
) -> None:
    """Trains `model` on rows of triples and the distributions of its teachers.

    Raises:
        ModelError: a teacher's tokenizer does not fit the objective.
        DataError: a response is in no table.
    """
    from datasets import Dataset
    from trl import SFTConfig

    from wrpo.distillation.rows import Lessons
    from wrpo.distillation.trainer import TeacherTrainer
    from wrpo.rows.token_ids import RowSettings

    tokenizer = load_target_tokenizer(model, recipe.target)
    names = {place.model for place in tables}
    teachers = {
        name: tokenizer
        if name == STUDENT
        else load_target_tokenizer(sampling_model(recipe, name).model, sampling_model(recipe, name))
        for name in sorted(names)
    }
    lessons = Lessons(
        settings,
        tables,
        student=tokenizer,
        teachers=teachers,
        row_settings=RowSettings(
            settings.responses, recipe.truncation.limits, fold_system=recipe.target.fold_system
        ),
    )
    examples = lessons(rows)
    work.facts.update(positions=lessons.positions, fallbacks=lessons.fallbacks)
    arguments = trl_arguments(settings, seed=recipe.seed, output=work.path)
    args = make_config(SFTConfig, arguments, where=f"{work.path.name}.train")
    load = partial(load_policy, model, recipe.target, attention=settings.engine.attention)
    policy = load(quantize=settings.lora.quantize if settings.lora else None)
    with refusals(f"{work.path.name}.train"):
        trainer = TeacherTrainer(
            settings,
            model=policy,
            args=args,
            train_dataset=Dataset.from_list(examples),
            processing_class=tokenizer,
            peft_config=lora_config(settings.lora),
        )
    train_and_save(trainer, work, rows=len(examples), load_base=load)

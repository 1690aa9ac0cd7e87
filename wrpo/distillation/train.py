"""The training stage of objectives that learn from stored distributions of teachers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from wrpo.chat.tokenizer import load_chat_tokenizer
from wrpo.distillation.settings import STUDENT, TeacherSettings
from wrpo.errors import DataError
from wrpo.objectives.base import LogitPlace
from wrpo.pipeline.folder import read_manifest
from wrpo.recipe.resolved import sampling_model
from wrpo.training.arm import Arm
from wrpo.training.attention import mixed_dtype, settle_attention
from wrpo.training.common import (
    load_policy,
    lora_config,
    micro_batch_tokens,
    train_and_save,
    trl_arguments,
)
from wrpo.training.trl_config import make_config, refusals

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def train_with_teachers(settings: TeacherSettings, arm: Arm) -> None:
    """Trains an arm on rows of triples and the distributions of its teachers.

    Raises:
        ModelError: a teacher's tokenizer does not fit the objective.
        DataError: a response is in no table.
    """
    from trl import SFTConfig

    from wrpo.distillation.logit_table import map_tables
    from wrpo.distillation.rows import Lessons
    from wrpo.distillation.trainer import TeacherTrainer
    from wrpo.rows.token_ids import RowSettings

    recipe, work = arm.recipe, arm.work
    arguments = trl_arguments(settings, seed=recipe.seed, output=work.path)
    args = make_config(SFTConfig, arguments, where=arm.where)  # knows the other processes
    places = settings.logit_tables(list(recipe.sources))
    tables = map_tables({place: arm.inputs[place.stage] for place in places}, into=work.path)
    tokenizer = load_chat_tokenizer(arm.start, recipe.target)
    names = {place.model for place in tables}
    teachers = {
        name: tokenizer
        if name == STUDENT
        else load_chat_tokenizer(sampling_model(recipe, name).model, sampling_model(recipe, name))
        for name in sorted(names)
    }
    _require_fingerprints(arm, tables, teachers)
    lessons = Lessons(
        settings,
        tables,
        student=tokenizer,
        teachers=teachers,
        row_settings=RowSettings(
            settings.responses, recipe.truncation.limits, fold_system=recipe.target.fold_system
        ),
    )
    examples = lessons(settings.rows_to_train(arm.rows))
    work.facts.update(
        positions=lessons.positions,
        fallbacks=lessons.fallbacks,
        rows_untold=lessons.untold,
        ties=lessons.ties,
    )
    load = partial(load_policy, arm.start, recipe.target, attention=settings.engine.attention)
    policy = load(quantize=settings.lora.quantize if settings.lora else None)
    attention = settings.engine.attention
    settle_attention(policy, attention, device=args.device, half=mixed_dtype(args))
    with refusals(arm.where):
        trainer = TeacherTrainer(
            settings,
            micro_batch_tokens(settings),
            model=policy,
            args=args,
            train_dataset=examples,
            processing_class=tokenizer,
            peft_config=lora_config(settings.lora),
        )
    train_and_save(
        trainer, work, rows=len(examples), load_base=load, compiled=settings.engine.compile
    )


def _require_fingerprints(
    arm: Arm, places: Iterable[LogitPlace], tokenizers: Mapping[str, PreTrainedTokenizerBase]
) -> None:
    """The ids of a table are those of the tokenizer that it was made with.

    Raises:
        DataError: the model has another one now.
    """
    from wrpo.distillation.token_bytes import fingerprint

    now = {name: fingerprint(tokenizer) for name, tokenizer in tokenizers.items()}
    for place in places:
        then = (read_manifest(arm.inputs[place.stage]) or {}).get("tokenizer")
        if then != now[place.model]:
            raise DataError(
                f"{arm.inputs[place.stage]} was made with another tokenizer (fingerprint {then}) "
                f"than {place.model} has now ({now[place.model]}); delete the folder and make it "
                f"again: {arm.pipeline.shell_command(place.stage)}"
            )

"""Supervised fine-tuning of the target on the best source responses, with TRL's SFTTrainer.

Reads:   RUN/build/sft
Writes:  RUN/sft/model, RUN/sft/log_history.json, RUN/sft/checkpoints; while it runs
         RUN/sft/metrics.jsonl
Run:     python -m wrpo.train_sft --recipe recipes/demo.yaml
Resume:  the same command again goes on from the last checkpoint
"""

from __future__ import annotations

import logging
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from wrpo.chat.tokenizer import load_chat_tokenizer
from wrpo.cli import parse_stage, run_main, stage_parser
from wrpo.errors import DataError, StageError, TemplateError
from wrpo.ids import prompt_id
from wrpo.objectives.sft import SFTSettings
from wrpo.pipeline.folder import DROPPED_FILE, read_manifest
from wrpo.pipeline.integrity import MODEL
from wrpo.pipeline.parts import StageWork
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import DROPPED, SFT_ROWS, Drop, Row, read_rows, write_parquet
from wrpo.pipeline.training_stages import sft_rows_stage
from wrpo.recipe import Recipe
from wrpo.rows.token_ids import where
from wrpo.training.arm import Arm
from wrpo.training.attention import mixed_dtype, settle_attention
from wrpo.training.common import (
    load_policy,
    lora_config,
    micro_batch_tokens,
    open_training,
    train_and_save,
    trl_arguments,
    warn_of_many_passes,
)
from wrpo.training.launch import leave_process_group, relaunch_under_accelerate
from wrpo.training.settings import Training
from wrpo.training.trl_config import make_config, refusals

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)


class SFTExample(NamedTuple):
    """One response to learn.

    Attributes:
        finished: without it the response was cut, and gets no end of turn.
        place: the row, for messages.
    """

    messages: list[Row]
    response: str
    finished: bool = True
    place: str = "a row"


def sample_of(row: Row, name: str) -> SFTExample:
    """The response of that name in a row of a training table."""
    finished = name not in (row.get("unfinished") or ())
    return SFTExample(row["prompt"], row[name][0]["content"], finished, where(row))


def train_sft(recipe: Recipe) -> None:
    """Runs the stage."""
    pipeline = Pipeline(recipe)
    table = pipeline.finished(sft_rows_stage(recipe))
    starting_model(pipeline)  # where it is missing, nothing is begun
    with open_training(pipeline, "sft") as work:
        if work.complete:
            return
        _refuse_rows_for_another_target(recipe, pipeline.finished("build/sft"))
        rows = read_rows(table, SFT_ROWS)
        warn_of_many_passes(recipe.sft, len(rows), where="sft")
        samples = [sample_of(row, "completion") for row in rows]
        run_sft(recipe, recipe.sft, starting_model(pipeline), samples=samples, work=work)


def starting_model(pipeline: Pipeline) -> str:
    """The target, or what is left of it after pruning.

    Raises:
        MissingInputError: it is not pruned yet.
    """
    if pipeline.recipe.prune is None:
        return pipeline.recipe.target.model
    return str(pipeline.finished("prune") / MODEL)


def train_sft_arm(settings: SFTSettings, arm: Arm) -> None:
    """An arm that spends its steps on supervised learning: the control of the others."""
    rows = settings.rows_to_train(arm.rows)
    samples = [sample_of(row, settings.trained_on(row)) for row in rows]
    run_sft(arm.recipe, settings, arm.start, samples=samples, work=arm.work)


def _refuse_rows_for_another_target(recipe: Recipe, table: Path) -> None:
    """Rows have thoughts where the target thinks; the target is in the key of this stage only.

    Raises:
        StageError: the table was built for a target that thinks, and this does not, or the reverse.
    """
    thoughts = (read_manifest(table) or {}).get("thoughts")
    if not thoughts:
        return
    tokenizer = load_chat_tokenizer(recipe.target.model, recipe.target)
    thinks = recipe.target.thinking.style(tokenizer) is not None
    if thinks != thoughts["kept"]:
        raise StageError(
            f"{table} was built for a target that {'thinks' if thoughts['kept'] else 'does not'}, "
            f"and {recipe.target.model} {'thinks' if thinks else 'does not'}: its rows "
            f"{'have' if thoughts['kept'] else 'lack'} thoughts. Delete the folder and build again"
        )


def run_sft(
    recipe: Recipe,
    settings: Training,
    model: str,
    *,
    samples: list[SFTExample],
    work: StageWork,
) -> None:
    """Trains `model` on samples; loss on the responses only."""
    from trl import SFTConfig

    from wrpo.training.sft_trainer import PackedSFTTrainer

    arguments = trl_arguments(settings, seed=recipe.seed, output=work.path)
    arguments = {"max_length": recipe.truncation.max_length, **arguments}
    max_length = arguments["max_length"]
    if arguments.get("padding_free") and not arguments.get("packing"):
        arguments["max_length"] = None  # TRL cuts no such rows; they are cut here
    arguments["completion_only_loss"] = True
    args = make_config(SFTConfig, arguments, where=f"{work.path.name}.train")
    tokenizer = load_chat_tokenizer(model, recipe.target)
    dataset, dropped = tokenised(
        samples, tokenizer, fold_system=recipe.target.fold_system, max_length=max_length
    )
    load = partial(load_policy, model, recipe.target, attention=settings.engine.attention)
    policy = load(quantize=settings.lora.quantize if settings.lora else None)
    half = mixed_dtype(args)
    settle_attention(policy, settings.engine.attention, device=args.device, half=half)
    with refusals(f"{work.path.name}.train"):
        trainer = PackedSFTTrainer(
            micro_batch_tokens(settings),
            model=policy,
            args=args,
            train_dataset=dataset,
            processing_class=tokenizer,
            peft_config=lora_config(settings.lora),
        )
    if dropped and trainer.is_world_process_zero():
        write_parquet(work.path / DROPPED_FILE, dropped, DROPPED)
        reasons = dict(Counter(row["reason"] for row in dropped))
        work.facts.update(dropped=len(dropped), dropped_reasons=reasons)
    train_and_save(
        trainer, work, rows=len(dataset), load_base=load, compiled=settings.engine.compile
    )


def tokenised(
    samples: list[SFTExample],
    tokenizer: PreTrainedTokenizerBase,
    *,
    fold_system: bool,
    max_length: int | None,
) -> tuple[Dataset, list[Row]]:
    """Token ids and response masks, and dropped rows.

    A row is dropped where its prompt alone fills `max_length`, or the chat template cannot render
    it. A response over `max_length` loses its tail, and is counted.

    Raises:
        DataError: no row is left.
    """
    from datasets import Dataset

    from wrpo.chat.render import render_response

    rows: list[dict[str, Any]] = []
    dropped: list[Row] = []
    cut = 0
    for messages, response, finished, place in samples:
        try:
            prompt_ids, response_ids = render_response(
                tokenizer, messages, response, fold_system=fold_system, finished=finished
            )
        except TemplateError as error:
            dropped.append(Drop("template", f"{place}: {error}").row(prompt_id(messages)))
            continue
        if max_length is not None and len(prompt_ids) >= max_length:
            filled = f"the prompt has {len(prompt_ids)} tokens, max_length is {max_length}"
            drop = Drop("prompt_too_long", f"{place}: {filled}")
            dropped.append(drop.row(prompt_id(messages)))
            continue
        ids = (prompt_ids + response_ids)[:max_length]
        cut += len(ids) < len(prompt_ids) + len(response_ids)
        mask = [0] * len(prompt_ids) + [1] * (len(ids) - len(prompt_ids))
        rows.append({"input_ids": ids, "completion_mask": mask})
    if cut:
        logger.warning("%d of %d responses are cut at max_length=%d", cut, len(rows), max_length)
    if dropped:
        first = dropped[0]["detail"]
        lost = f"{len(dropped)} of {len(samples)} rows cannot be trained on; the first is {first}"
        if not rows:
            raise DataError(f"{lost}. Raise truncation.max_length, or set target.chat_template")
        logger.warning("%s", lost)
    return Dataset.from_list(rows), dropped


def main() -> None:
    _, recipe = parse_stage(stage_parser(__doc__))
    relaunch_under_accelerate(recipe.sft.engine, "wrpo.train_sft")
    train_sft(recipe)
    leave_process_group()


if __name__ == "__main__":
    run_main(main)

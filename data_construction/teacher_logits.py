"""Distributions of a teacher over the tokens of training responses: likeliest ones, and the rest.

Reads:   RUN/build/triples; RUN/sft/model for `--model sft`
Writes:  RUN/teacher_logits/MODEL/RESPONSE
Run:     python -m data_construction.teacher_logits --recipe RECIPE
         --model NAME --response source_chosen makes one of the tables that the recipe reads;
         --at OTHER looks up the tokens that the table of OTHER holds
Resume:  a finished part is never made again
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from wrpo.cli import parse_stage, run_main, stage_parser
from wrpo.errors import RecipeError
from wrpo.ids import response_id
from wrpo.objectives.base import LogitPlace
from wrpo.pipeline.parts import open_stage
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import TEACHER_LOGITS, TRIPLES, Drop, Row, read_rows
from wrpo.processes import run_command
from wrpo.recipe import TARGET, Recipe
from wrpo.recipe.resolved import sampling_model

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

T = TypeVar("T")


class RenderedResponse(NamedTuple):
    """A response under the teacher's tokenizer, behind its prompt."""

    key: str
    prompt: list[int]
    response: list[int]


class TeacherLogitsStage:
    """The distributions of one model over one response of each triple."""

    def __init__(self, recipe: Recipe, place: LogitPlace) -> None:
        self.recipe = recipe
        self.place = place
        self.pipeline = Pipeline(recipe)
        self.entry = sampling_model(recipe, TARGET if place.model == "sft" else place.model)
        if self.entry.adapter:
            raise RecipeError(
                f"{place.stage}: distributions are of plain weights, and {place.model} has adapter "
                f"{self.entry.adapter}; merge it into the weights (peft: merge_and_unload)"
            )

    def run(self) -> None:
        """Computes the missing parts.

        Raises:
            ModelError: the model cannot be loaded.
            DataError: the table of `at` holds other tokens, so that the tokenizers differ.
        """
        from tqdm import tqdm

        rows = read_rows(self.pipeline.finished("build/triples"), TRIPLES)
        chunks = _batches(rows, self.recipe.teacher_logits.chunk_rows)
        with open_stage(self.pipeline, self.place.stage, parts=len(chunks)) as work:
            for part in tqdm(work.todo, unit="part", desc=self.place.stage):
                made, dropped = self._rows(chunks[part])
                work.write_part(part, made, TEACHER_LOGITS, dropped=dropped)
            if work.todo:
                from wrpo.distillation.token_bytes import fingerprint

                work.facts["tokenizer"] = fingerprint(self._tokenizer)

    @cached_property
    def path(self) -> str:
        """Weights of the model."""
        if self.place.model == "sft":
            return str(self.pipeline.finished("sft") / "model")
        return self.entry.model

    @cached_property
    def _tokenizer(self) -> Any:
        from wrpo.training.common import load_target_tokenizer

        return load_target_tokenizer(self.path, self.entry)

    @cached_property
    def _model(self) -> Any:
        import torch

        from wrpo.training.common import load_policy

        device = "cuda" if torch.cuda.is_available() else "cpu"
        return load_policy(self.path, self.entry).eval().to(device)

    @cached_property
    def _stored_ids(self) -> dict[str, Row] | None:
        if self.place.at is None:
            return None
        folder = self.pipeline.finished(LogitPlace(self.place.at, self.place.response).stage)
        return {row["response_id"]: row for row in read_rows(folder, TEACHER_LOGITS)}

    def _rows(self, rows: list[Row]) -> tuple[list[Row], list[Row]]:
        """Distributions of each response once, and what the template cannot render."""
        responses: dict[str, RenderedResponse] = {}
        dropped = []
        for row in rows:
            found = self._tokens(row)
            if isinstance(found, Drop):
                dropped.append(found.row(row["prompt_id"]))
            else:
                responses.setdefault(found.key, found)
        made: list[Row] = []
        size = self.recipe.teacher_logits.engine.batch_responses
        for batch in _batches(list(responses.values()), size):
            made += self._distributions(batch)
        return made, dropped

    def _tokens(self, row: Row) -> RenderedResponse | Drop:
        from wrpo.chat.render import render_response
        from wrpo.errors import TemplateError

        text = row[self.place.response][0]["content"]
        finished = self.place.response not in (row["unfinished"] or ())
        fold = self.entry.fold_system
        try:
            prompt, response = render_response(
                self._tokenizer, row["prompt"], text, fold_system=fold, finished=finished
            )
        except TemplateError as error:
            return Drop("template", str(error))
        return RenderedResponse(response_id(row["prompt"], text), prompt, response)

    def _distributions(self, batch: list[RenderedResponse]) -> list[Row]:
        import torch

        longest = max(len(one.prompt) + len(one.response) for one in batch)
        ids = torch.zeros(len(batch), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for place, one in enumerate(batch):
            whole = [*one.prompt, *one.response]
            ids[place, : len(whole)] = torch.tensor(whole)
            mask[place, : len(whole)] = 1
        device = self._model.device
        with torch.no_grad():
            logits = self._model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits
        return [
            self._row(one, logits[place, len(one.prompt) - 1 :][: len(one.response)])
            for place, one in enumerate(batch)
        ]

    def _row(self, one: RenderedResponse, logits: Tensor) -> Row:
        """From the logits that predict the tokens of the response, (tokens, vocabulary)."""
        import torch

        from wrpo.distillation.table import chosen_ids, remainder

        logps = logits.float().log_softmax(-1)
        own = torch.tensor(one.response, device=logps.device)
        ids = chosen_ids(logps, one, self._stored_ids, top_k=self.recipe.teacher_logits.top_k)
        top = logps.gather(-1, ids)
        return {
            "response_id": one.key,
            "token_ids": one.response,
            "top_ids": ids.tolist(),
            "top_logps": top.tolist(),
            "rest": remainder(logps, ids).tolist(),
            "mean_nll": -float(logps.gather(-1, own[:, None]).mean()),
            "forwarded": len(one.prompt) + len(one.response),
        }


def _batches(items: Sequence[T], size: int) -> list[list[T]]:
    return [list(items[at : at + size]) for at in range(0, len(items), size)]


def _places(recipe: Recipe, args: argparse.Namespace) -> list[LogitPlace]:
    """Every table that the recipe reads and that was asked for.

    Raises:
        RecipeError: no such table.
    """
    stages = Pipeline(recipe).of_kind("teacher_logits")
    places = [LogitPlace(**stage.args) for stage in stages if stage.round == recipe.round]
    asked = {name: getattr(args, name) for name in ("model", "response")}
    wanted = [
        place
        for place in places
        if all(value in (None, getattr(place, name)) for name, value in asked.items())
        and (args.at == place.at or (args.at is None and args.model is None))
    ]
    if not wanted:
        known = ", ".join(place.stage for place in places) or "none at all"
        raise RecipeError(f"no arm of recipe {recipe.run} reads these; it reads: {known}")
    return wanted


def _run_each(recipe: Recipe, places: list[LogitPlace]) -> None:
    """Each in a process of its own, so that one model's memory is gone before the next."""
    for place in places:
        flags = [word for name, value in place.args.items() for word in (f"--{name}", value)]
        command = [sys.executable, "-m", "data_construction.teacher_logits", *recipe.command_line]
        status = run_command([*command, *flags, "--round", str(recipe.round)])
        if status:
            sys.exit(status)


def main() -> None:
    parser = stage_parser(__doc__, rounds=True)
    parser.add_argument("--model", help="sft, or a source's name; default: all that are needed")
    parser.add_argument("--response", help="source_chosen, chosen or rejected")
    parser.add_argument("--at", help="the model whose stored tokens are looked up")
    args, recipe = parse_stage(parser)
    places = _places(recipe, args)
    if len(places) > 1:
        _run_each(recipe, places)
        return
    TeacherLogitsStage(recipe, places[0]).run()


if __name__ == "__main__":
    run_main(main)

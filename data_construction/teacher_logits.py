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
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from data_construction.scoring.teacher_distributions import (
    ByTransformers,
    ByVLLM,
    DistributionMaker,
    RenderedResponse,
)
from wrpo.cli import parse_stage, run_main, stage_parser
from wrpo.errors import RecipeError
from wrpo.ids import response_id
from wrpo.objectives.base import LogitPlace
from wrpo.pipeline.parts import open_stage
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import TEACHER_LOGITS, TRIPLES, Drop, Row, read_rows
from wrpo.processes import leave, run_command
from wrpo.recipe import TARGET, Recipe
from wrpo.recipe.resolved import sampling_model, vllm_engine

logger = logging.getLogger(__name__)


class TeacherLogitsStage:
    """The distributions of one model over one response of each triple."""

    def __init__(self, recipe: Recipe, place: LogitPlace) -> None:
        self.recipe = recipe
        self.settings = recipe.teacher_logits
        self.place = place
        self.pipeline = Pipeline(recipe)
        self.source = TARGET if place.model == "sft" else place.model
        self.entry = sampling_model(recipe, self.source)
        if self.entry.adapter:
            raise RecipeError(
                f"{place.stage}: distributions are of plain weights, and {place.model} has adapter "
                f"{self.entry.adapter}; merge it into the weights (peft: merge_and_unload)"
            )
        if place.at is not None and self.settings.method == "vllm":
            raise RecipeError(
                f"{place.stage} looks up the tokens that {place.at} stored, and vLLM gives the "
                "likeliest tokens only; set teacher_logits.method to transformers"
            )

    def run(self) -> None:
        """Computes the missing parts.

        Raises:
            ModelError: the model cannot be loaded.
            DataError: the table of `at` holds other tokens, so that the tokenizers differ.
        """
        from tqdm import tqdm

        from wrpo.distillation.token_bytes import fingerprint

        rows = read_rows(self.pipeline.finished("build/triples"), TRIPLES)
        size = self.settings.chunk_rows
        chunks = [rows[at : at + size] for at in range(0, len(rows), size)]
        with open_stage(self.pipeline, self.place.stage, parts=len(chunks)) as work:
            if not work.todo:
                return
            work.facts["tokenizer"] = fingerprint(self._tokenizer)
            work.facts["made_by"] = self.settings.method
            make = self._maker([chunks[part] for part in work.todo], into=work.path)
            for part in tqdm(work.todo, unit="part", desc=self.place.stage):
                responses, dropped = self._rendered(chunks[part])
                work.write_part(part, make(responses), TEACHER_LOGITS, dropped=dropped)

    def _maker(self, chunks: list[list[Row]], *, into: Path) -> DistributionMaker:
        if self.settings.method == "transformers":
            return ByTransformers(
                self._path,
                self.entry,
                top_k=self.settings.top_k,
                batch_responses=self.settings.engine.batch_responses,
                stored=self._stored(into),
            )
        lengths = [
            len(one.prompt) + len(one.response)
            for rows in chunks
            for one in self._rendered(rows)[0]
        ]
        return ByVLLM(
            self._path,
            self.entry,
            engine=vllm_engine(self.recipe, self.source),
            longest=max(lengths, default=1),
            top_k=self.settings.top_k,
        )

    @cached_property
    def _path(self) -> str:
        """Weights of the model."""
        if self.place.model == "sft":
            return str(self.pipeline.finished("sft") / "model")
        return self.entry.model

    @cached_property
    def _tokenizer(self) -> Any:
        from wrpo.chat.tokenizer import load_chat_tokenizer

        return load_chat_tokenizer(self._path, self.entry)

    def _stored(self, into: Path) -> Mapping[str, Mapping[str, Any]] | None:
        from wrpo.distillation.logit_table import map_tables

        if self.place.at is None:
            return None
        place = LogitPlace(self.place.at, self.place.response)
        return map_tables({place: self.pipeline.finished(place.stage)}, into=into)[place]

    def _rendered(self, rows: list[Row]) -> tuple[list[RenderedResponse], list[Row]]:
        """Each response once, and what the template cannot render or leaves no token."""
        responses: dict[str, RenderedResponse] = {}
        dropped = []
        for row in rows:
            found = self._tokens(row)
            if isinstance(found, Drop):
                dropped.append(found.row(row["prompt_id"]))
            else:
                responses.setdefault(found.key, found)
        return list(responses.values()), dropped

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
        if not response:
            return Drop("empty_response", "it is unfinished and has no token")
        return RenderedResponse(response_id(row["prompt"], text), prompt, response)


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
    if recipe.teacher_logits.method == "vllm":
        leave(0)


if __name__ == "__main__":
    run_main(main)

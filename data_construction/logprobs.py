"""Log-probs of the training responses under one model of the run: the SFT model, or a source.

Reads:   RUN/build/triples or pairs; RUN/sft/model for `--model sft`; RUN/sample/... for the method
         `sampled`
Writes:  RUN/logprobs/MODEL/ROWS (per response, named by its content: log-prob sum and mean in nats,
         tokens under that model's own tokenizer, mean entropy)
Run:     python -m data_construction.logprobs --model sft --recipe recipes/demo.yaml
         without --model: every table that the recipe's arms read
Resume:  the same command again; finished parts stay

The SFT model's are the reference of WRPO and DPO, which therefore hold no reference model while
training; the sources' are what InfiFPO and CGPO fuse. Other methods than the training step's own
pass are compared with it on a few responses before they are used.
"""

from __future__ import annotations

import argparse
import logging
import sys
from functools import cached_property

from data_construction.scoring.response_logprobs import ResponseScorer
from wrpo.cli import parse_stage, run_main, stage_parser
from wrpo.errors import RecipeError
from wrpo.objectives.reference import with_anchors
from wrpo.pipeline.parts import open_stage
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import (
    BUILT,
    LOGPROBS,
    RESPONSES,
    ROW_RESPONSES,
    Row,
    iter_parts,
    read_rows,
)
from wrpo.processes import leave, run_command
from wrpo.recipe import TARGET, Recipe
from wrpo.recipe.resolved import sampling_model
from wrpo.recipe.sampling import Model

logger = logging.getLogger(__name__)

SFT_MODEL = "sft"


class LogProbStage:
    """The log-probs of one set of rows under one model."""

    def __init__(self, recipe: Recipe, model: str, rows: str) -> None:
        self.recipe = recipe
        self.settings = recipe.logprobs
        self.pipeline = Pipeline(recipe)
        self.name = f"logprobs/{model}/{rows}"
        self.model = model
        self.rows = rows
        self.responses = ("anchor",) if rows == "anchors" else ROW_RESPONSES[rows]
        self.source = TARGET if model == SFT_MODEL else model
        self.entry: Model = sampling_model(recipe, self.source)
        if self.entry.adapter:
            raise RecipeError(
                f"{self.name}: log-probs are of plain weights, and {model} has adapter "
                f"{self.entry.adapter}; merge it into the weights (peft: merge_and_unload) and "
                "name the merged folder as model"
            )

    def run(self) -> None:
        """Computes the missing parts.

        Raises:
            ModelError: the method's log-probs differ from those of the training step.
        """
        from tqdm import tqdm

        rows = self._table
        size = self.settings.chunk_rows
        chunks = [rows[at : at + size] for at in range(0, len(rows), size)]
        with open_stage(self.pipeline, self.name, parts=len(chunks)) as work:
            if work.todo:
                score = ResponseScorer(self, [chunks[part] for part in work.todo])
                for part in tqdm(work.todo, unit="part", desc=self.name):
                    work.write_part(part, score(chunks[part]), LOGPROBS)

    def path(self) -> str:
        """Weights of the model."""
        if self.model == SFT_MODEL:
            return str(self.pipeline.finished("sft") / "model")
        return self.entry.model

    def sampled(self) -> dict[tuple[str, int], Row]:
        """The responses that this very model gave, with the log-probs of sampling.

        Raises:
            RecipeError: sampling kept no log-probs.
        """
        stage = f"sample/{self.source}"
        if stage not in self.pipeline[self.name].inputs:
            return {}
        wanted = {
            (row["prompt_id"], row[f"{name}_index"])
            for row in self._table
            for name in self.responses
            if row.get(f"{name}_source") == self.source
        }
        found = {
            (row["prompt_id"], row["index"]): row
            for rows in iter_parts(self.pipeline.finished(stage), RESPONSES)
            for row in rows
            if (row["prompt_id"], row["index"]) in wanted
        }
        if any(row["logprob"] is None for row in found.values()):
            raise RecipeError(
                f"logprobs.method is sampled, but {stage} kept no log-probs; set "
                "sample.keep_logprobs (or sample.target.keep_logprobs) and sample again, or set "
                "logprobs.method to trainer"
            )
        return found

    @cached_property
    def _table(self) -> list[Row]:
        table = "triples" if self.rows == "anchors" else self.rows
        rows = read_rows(self.pipeline.finished(f"build/{table}"), BUILT[table])
        return with_anchors(rows) if self.rows == "anchors" else rows


def _tables(recipe: Recipe, model: str | None, rows: str | None) -> list[tuple[str, str]]:
    """(model, rows) of every table that the recipe reads and that was asked for.

    Raises:
        RecipeError: no such table.
    """
    stages = Pipeline(recipe).of_kind("logprobs")
    own = [stage for stage in stages if stage.round == recipe.round]
    tables = [(stage.args["model"], stage.args["rows"]) for stage in own]
    wanted = [(m, r) for m, r in tables if model in (None, m) and rows in (None, r)]
    if not wanted:
        known = ", ".join(f"--model {m} --rows {r}" for m, r in tables) or "none at all"
        raise RecipeError(f"no arm of recipe {recipe.run} reads these log-probs; it reads: {known}")
    return wanted


def _run_each(recipe: Recipe, tables: list[tuple[str, str]]) -> None:
    """Each in a process of its own, so that one model's memory is gone before the next."""
    for model, rows in tables:
        command = [sys.executable, "-m", "data_construction.logprobs", *recipe.command_line]
        command += ["--model", model, "--rows", rows, "--round", str(recipe.round)]
        status = run_command(command)
        if status:
            sys.exit(status)


def _arguments() -> argparse.ArgumentParser:
    parser = stage_parser(__doc__, rounds=True)
    parser.add_argument("--model", help="sft, or a source's name; default: all that are needed")
    parser.add_argument(
        "--rows",
        choices=[*ROW_RESPONSES, "anchors"],
        help="which rows; default: all that are needed",
    )
    return parser


def main() -> None:
    args, recipe = parse_stage(_arguments())
    tables = _tables(recipe, args.model, args.rows)
    if len(tables) > 1:
        _run_each(recipe, tables)
        return
    LogProbStage(recipe, *tables[0]).run()
    if recipe.logprobs.method == "vllm":
        leave(0)


if __name__ == "__main__":
    run_main(main)

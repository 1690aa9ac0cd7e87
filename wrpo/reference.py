"""Log-probabilities of the training answers under the SFT model, as a table.

Reads:   RUN/build/triples or pairs, RUN/sft/model
Writes:  RUN/reference/TABLE (per row: log-prob sum in nats and token count of each answer)
Run:     python -m wrpo.reference --recipe recipes/demo.yaml
Resume:  the same command again; finished parts stay

With this table no reference model is held in memory while training.
"""

from __future__ import annotations

import argparse
import logging
from typing import TYPE_CHECKING, Any

from wrpo.batching import batches_by_length
from wrpo.cli import parse_stage, run_main, stage_parser
from wrpo.errors import RecipeError
from wrpo.recipe import Recipe
from wrpo.stage_folder import StageFolder
from wrpo.stages import Pipeline
from wrpo.tables import Row, read_rows, reference_schema
from wrpo.train import ANSWERS

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)


def make_reference(recipe: Recipe, table: str) -> None:
    """Runs the stage for one table."""
    from tqdm import tqdm

    pipeline = Pipeline(recipe)
    stage = f"reference/{table}"
    folder = StageFolder(pipeline.folder(stage), pipeline.key(stage))
    inputs = {name: pipeline.finished(name) for name in pipeline[stage].inputs}
    rows = read_rows(inputs[f"build/{table}"])
    size = recipe.reference.chunk_rows
    chunks = [rows[at : at + size] for at in range(0, len(rows), size)]
    if folder.open(parts=len(chunks)):
        logger.info("%s: complete, nothing to do (%s)", stage, folder.path)
        return
    with folder.lock():
        todo = [part for part in range(len(chunks)) if part not in folder.done_parts()]
        if todo:
            model = ReferenceModel(recipe, str(inputs["sft"] / "model"), ANSWERS[table])
            for part in tqdm(todo, unit="part", desc=stage):
                folder.write_part(
                    part, model.log_probs(chunks[part]), reference_schema(list(ANSWERS[table]))
                )
        folder.finish_parts(len(chunks))


class ReferenceModel:
    """The SFT model, ready to give log-probs of rows of one table."""

    def __init__(self, recipe: Recipe, path: str, answers: tuple[str, ...]) -> None:
        import torch

        from wrpo.preference_data import RowSettings
        from wrpo.training import load_policy, load_target_tokenizer

        self._answers = answers
        self._budget = recipe.reference.engine.batch_tokens
        self._tokenizer = load_target_tokenizer(path, recipe.target)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model: Any = load_policy(path, recipe.target).eval().to(device)
        self._settings = RowSettings(
            responses=answers,
            limits=recipe.truncation.limits,
            fold_system=recipe.target.fold_system,
        )

    def log_probs(self, rows: list[Row]) -> list[Row]:
        """One reference row per row, in order."""
        from wrpo.preference_data import prepare_row

        sequences: list[tuple[list[int], list[int]]] = []
        for row in rows:
            ids = prepare_row(row, tokenizer=self._tokenizer, settings=self._settings)
            sequences += [(ids["prompt_ids"], ids[f"{name}_ids"]) for name in self._answers]
        sums = iter(self._sums(sequences))
        lengths = iter([len(answer) for _, answer in sequences])
        reference = []
        for row in rows:
            made: Row = {"triple_id": row["triple_id"]}
            for name in self._answers:
                made[f"ref_{name}_logps"] = next(sums)
                made[f"ref_{name}_length"] = next(lengths)
            reference.append(made)
        return reference

    def _sums(self, sequences: list[tuple[list[int], list[int]]]) -> list[float]:
        """Log-prob sums in the order given, computed in batches of similar length."""
        lengths = [len(prompt) + len(answer) for prompt, answer in sequences]
        sums = [0.0] * len(sequences)
        for batch in batches_by_length(lengths, self._budget):
            values = self._forward([sequences[place] for place in batch])
            for place, value in zip(batch, values.tolist(), strict=True):
                sums[place] = value
        return sums

    def _forward(self, sequences: list[tuple[list[int], list[int]]]) -> torch.Tensor:
        import torch

        width = max(len(prompt) + len(answer) for prompt, answer in sequences)
        ids = torch.full((len(sequences), width), self._tokenizer.pad_token_id)
        mask = torch.zeros_like(ids)
        scored = torch.zeros_like(ids)
        for place, (prompt, answer) in enumerate(sequences):
            end = len(prompt) + len(answer)
            ids[place, :end] = torch.tensor(prompt + answer)
            mask[place, :end] = 1
            scored[place, len(prompt) : end] = 1
        device = self._model.device
        ids, mask, scored = ids.to(device), mask.to(device), scored.to(device)
        mixed = torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
        with torch.inference_mode(), mixed:
            logits = self._model(input_ids=ids, attention_mask=mask).logits[:, :-1]
        picked = torch.gather(logits, 2, ids[:, 1:, None])[..., 0].float()
        log_probs = picked - torch.logsumexp(logits.float(), dim=-1)
        return (log_probs * scored[:, 1:]).sum(dim=1)


def _arguments() -> argparse.ArgumentParser:
    parser = stage_parser(__doc__)
    parser.add_argument(
        "--table", choices=sorted(ANSWERS), help="default: all that the recipe uses"
    )
    return parser


def main() -> None:
    args, recipe = parse_stage(_arguments())
    used = [table for table in ANSWERS if f"reference/{table}" in Pipeline(recipe).stages]
    if args.table and args.table not in used:
        raise RecipeError(f"no arm of recipe {recipe.run} trains on {args.table} (wrpo.data)")
    for table in [args.table] if args.table else used:
        make_reference(recipe, table)


if __name__ == "__main__":
    run_main(main)

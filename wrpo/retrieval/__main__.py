"""Trains a dialogue model that retrieves records, or measures one, and writes its responses.

Reads:   files of JSON lines: {"messages": [...], "response": ..., "records": [...]}
Writes:  --out FOLDER: the models, responses.jsonl of the held-out exchanges, measured.json
Run:     python -m wrpo.retrieval --train FILE --held-out FILE --method maker \\
             --generator google-t5/t5-base --encoder google-bert/bert-base-uncased --out FOLDER
         python -m wrpo.retrieval --model FOLDER --held-out FILE --out OTHER_FOLDER
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from wrpo.cli import run_main
from wrpo.errors import RecipeError
from wrpo.files import replacing
from wrpo.retrieval.settings import Control, Method, RetrievalTraining

if TYPE_CHECKING:
    from wrpo.retrieval.exchanges import DialogueExchange
    from wrpo.retrieval.model import DialogueModel

logger = logging.getLogger(__name__)


def measured_retrieval(
    model: DialogueModel, exchanges: Sequence[DialogueExchange]
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """What a model retrieves and says, one row an exchange, and how good that is."""
    from wrpo.retrieval.measure import bleu, entity_f1, recall_at_1

    found = model.respond(exchanges)
    responses = [response for _, response in found]
    recall, chance = recall_at_1(exchanges, [one.places[0] for one, _ in found])
    rows = [
        {"response": response, "reference": exchange.response, **dataclasses.asdict(one)}
        for exchange, (one, response) in zip(exchanges, found, strict=True)
    ]
    return rows, {
        "exchanges": len(rows),
        "recall_at_1": recall,
        "recall_at_1_of_chance": chance,
        "entity_f1": entity_f1(exchanges, responses),
        "bleu": bleu([one.response for one in exchanges], responses),
    }


def _trained(args: argparse.Namespace) -> DialogueModel:
    from wrpo.retrieval.exchanges import attributes_of, read_exchanges
    from wrpo.retrieval.learn import train_dialogues
    from wrpo.retrieval.model import DialogueModel

    names = [field.name for field in dataclasses.fields(RetrievalTraining)]
    how = RetrievalTraining(**{name: getattr(args, name) for name in names})
    exchanges = read_exchanges(args.train, args.records)
    model = DialogueModel.start(
        args.method,
        args.generator,
        args.encoder,
        attributes_of(exchanges),
        top=args.top,
        threshold=args.threshold,
    )
    fewest = min(len(one.records) for one in exchanges)
    if fewest < args.top:
        logger.info("exchanges with fewer than %d records (%d): all are read", args.top, fewest)
    train_dialogues(model, exchanges, how)
    model.save(args.out)
    return model


def run(args: argparse.Namespace) -> None:
    """Trains or loads, measures, writes.

    Raises:
        RecipeError: flags that do not go together.
        MissingInputError, DataError: of the files.
        ModelError: a model cannot be loaded.
    """
    from wrpo.retrieval.exchanges import read_exchanges
    from wrpo.retrieval.model import DialogueModel

    given = [args.train, args.generator, args.encoder]
    if args.model is None and not all(given):
        raise RecipeError("--train needs --generator and --encoder; or give a trained --model")
    if args.model is not None and any(given):
        raise RecipeError("--model is trained already; leave out --train, --generator, --encoder")
    if args.top < 1:
        raise RecipeError(f"--top is {args.top}; give 1 or more")
    held_out = read_exchanges(args.held_out, args.records)
    model = _trained(args) if args.model is None else DialogueModel.load(args.model)
    rows, numbers = measured_retrieval(model, held_out)
    args.out.mkdir(parents=True, exist_ok=True)
    with replacing(args.out / "responses.jsonl") as partial:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        partial.write_text(text, encoding="utf-8")
    with replacing(args.out / "measured.json") as partial:
        partial.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(numbers, indent=2) + "\n")


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m wrpo.retrieval",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--train", type=Path, metavar="FILE", help="exchanges to learn from")
    parser.add_argument(
        "--held-out", type=Path, metavar="FILE", required=True, help="to measure on"
    )
    parser.add_argument(
        "--records", type=Path, metavar="FILE", help="records of exchanges that bring none"
    )
    parser.add_argument("--method", choices=get_args(Method), default="maker")
    parser.add_argument("--generator", metavar="MODEL", help="a T5: folder or hub name")
    parser.add_argument("--encoder", metavar="MODEL", help="a BERT: folder or hub name")
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="trained by this command")
    parser.add_argument("--out", type=Path, metavar="FOLDER", required=True)
    parser.add_argument("--top", type=int, default=7, help="records to read (%(default)s)")
    parser.add_argument(
        "--threshold", type=float, default=0.1, help="of attributes, maker (%(default)s)"
    )
    for field in dataclasses.fields(RetrievalTraining):
        flag = "--" + field.name.replace("_", "-")
        if field.name == "control":
            parser.add_argument(flag, choices=get_args(Control), default=field.default)
        else:
            kind = type(field.default)
            parser.add_argument(flag, type=kind, default=field.default, help="(%(default)s)")
    return parser


def main() -> None:
    """Parses and runs."""
    run(_arguments().parse_args())


if __name__ == "__main__":
    run_main(main)

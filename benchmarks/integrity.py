"""What the integrity checks add to writing and reading tables, and to saving models.

Usage: python -m benchmarks.integrity

Columns: the least and the middle wall time in milliseconds, and the middle one over that of the
peer. Tables: pyarrow writes the same rows to the same parts, and reads them; the stage adds marks
and digests, its readers compare rows and sources, and `--verify` compares digests too. Models:
transformers' `save_model`; a training stage also records and compares digests of the files, and
compares the log-probs of the saved model with those of the trained one. Arms of a group take turns.
"""

import argparse
import logging
import random
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.sandbox import measure
from benchmarks.shapes import SHAPES, random_model
from wrpo.pipeline.folder import StageFolder, read_manifest
from wrpo.pipeline.integrity import check_folder, record_digests
from wrpo.pipeline.tables import RESPONSES, Row, part_name, read_rows
from wrpo.training.saving import save_model

logger = logging.getLogger(__name__)

KEY = {"source": "one"}
Arms = dict[str, Callable[[], object]]


def responses(count: int) -> list[Row]:
    """Rows of 300 tokens, and about as many words."""
    draw = random.Random(0)
    unknown = dict.fromkeys(("logprob", "answer_start", "thought_tokens"))
    return [
        {
            "prompt_id": f"{number:016x}",
            "source": "one",
            "index": 0,
            "text": " ".join(f"w{draw.randrange(9999)}" for _ in range(300)),
            "token_ids": [draw.randrange(32000) for _ in range(300)],
            "finish_reason": "stop",
            "token_count": 300,
            "seed": number,
            **unknown,
        }
        for number in range(count)
    ]


def table_arms(folder: Path, rows: list[Row], parts: int) -> tuple[Arms, Arms]:
    """Writing and reading, each with its peer first."""
    size = len(rows) // parts
    chunks = [rows[part * size : (part + 1) * size] for part in range(parts)]
    plain, staged = folder / "plain", folder / "staged"

    def write_plain() -> None:
        plain.mkdir(exist_ok=True)
        for part, chunk in enumerate(chunks):
            table = pa.Table.from_pylist(chunk, schema=RESPONSES)
            pq.write_table(
                table, plain / part_name(part), compression="zstd", write_page_checksum=True
            )

    def write_staged() -> None:
        shutil.rmtree(staged, ignore_errors=True)
        stage = StageFolder(staged, KEY)
        stage.open(parts=parts)
        for part, chunk in enumerate(chunks):
            stage.write_part(part, chunk, RESPONSES)
        stage.finish_parts(parts)

    def read_plain() -> None:
        for part in range(parts):
            with pq.ParquetFile(plain / part_name(part), page_checksum_verification=True) as file:
                file.read().to_pylist()

    def read_staged(digests: bool) -> None:
        check_folder(staged, read_manifest(staged) or {}, digests=digests)
        read_rows(staged, RESPONSES)

    writing: Arms = {"pyarrow": write_plain, "stage": write_staged}
    reading: Arms = {
        "pyarrow": read_plain,
        "stage": lambda: read_staged(False),
        "verify": lambda: read_staged(True),
    }
    return writing, reading


def model_arms(folder: Path, layers: int) -> Arms:
    """Saving a model, with its peer first."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast, Trainer, TrainingArguments

    shape = SHAPES["tiny"].with_layers(layers)
    words = {f"w{number}": number for number in range(shape.vocabulary)}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words, "w0")))
    rows: Any = [{"input_ids": list(range(start, start + 64))} for start in range(4)]
    trainer = Trainer(
        random_model(shape, seed=0, device="cpu", attention="sdpa"),
        TrainingArguments(str(folder / "trainer"), report_to="none", use_cpu=True),
        train_dataset=rows,
        processing_class=tokenizer,
    )
    weights = sum(weight.numel() for weight in trainer.model.parameters())
    logger.info("model: %.0f M weights in float32", weights / 1e6)

    def checked() -> None:
        save_model(trainer, folder / "checked" / "model")

    def recorded() -> None:
        checked()
        check_folder(folder / "checked", {"files": record_digests(folder / "checked"), "key": {}})

    plain = folder / "saved"
    return {
        "transformers": lambda: trainer.save_model(str(plain)),
        "same": checked,
        "all": recorded,
    }


def report(group: str, arms: Arms, turns: int) -> None:
    """A line per arm."""
    middle: dict[str, float] = {}
    for name, seconds in measure(arms, turns).items():
        middle[name] = statistics.median(seconds)
        ratio = middle[name] / next(iter(middle.values()))
        least = 1000 * min(seconds)
        logger.info("%-6s %-12s %7.0f %7.0f %6.2f", group, name, least, 1000 * middle[name], ratio)


def main(argv: list[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--turns", type=int, default=7, help="runs of each arm")
    parser.add_argument("--rows", type=int, default=8000, help="of 300 tokens, in 4 parts")
    parser.add_argument("--layers", type=int, default=24, help="of the model, hidden size 384")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("wrpo").setLevel(logging.WARNING)
    with TemporaryDirectory() as folder:
        writing, reading = table_arms(Path(folder), responses(arguments.rows), 4)
        models = model_arms(Path(folder), arguments.layers)
        logger.info("group  arm            least  middle  ratio")
        report("write", writing, arguments.turns)
        report("read", reading, arguments.turns)
        report("save", models, arguments.turns)


if __name__ == "__main__":
    main()

"""What one evaluation leaves behind: results.json, and every sample as a parquet row."""

from __future__ import annotations

import json
import math
import numbers
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from wrpo.errors import DataError
from wrpo.files import read_json, replacing
from wrpo.pipeline.tables import Row, read_rows

_FIELDS = ("tasks",)
RESULTS = "results.json"
SAMPLES = pa.schema(
    [
        ("task", pa.string()),
        ("doc_id", pa.int64()),
        ("filter", pa.string()),
        ("doc", pa.string()),
        ("question", pa.string()),
        ("prompt", pa.string()),
        ("response", pa.string()),
        ("filtered", pa.string()),
        ("target", pa.string()),
        ("metrics", pa.list_(pa.struct([("name", pa.string()), ("value", pa.float64())]))),
    ]
)
"""`question` is the last user turn, `prompt` the rendered text, `doc` JSON; `response` is the text,
or JSON log-likelihoods for tasks without generation."""


SampleId = tuple[str, int]


@dataclass(frozen=True)
class EvaluatedSample:
    """One document of one task, answered by one model.

    Attributes:
        values: metric name to value; a metric that a task computes under several filters is named
            "metric (filter)".
    """

    task: str
    doc_id: int
    doc: dict[str, Any]
    question: str
    response: str
    target: str
    values: dict[str, float]

    @property
    def id(self) -> SampleId:
        """What joins the samples of different models."""
        return self.task, self.doc_id


def sample_row(task: str, sample: dict[str, Any], *, question: str) -> Row:
    """A row of the samples table from one of lm-eval's logged samples.

    Metrics that are not one number per document are left to results.json.
    """
    names = sample["metrics"]
    return {
        "task": task,
        "doc_id": int(sample["doc_id"]),
        "filter": sample["filter"],
        "doc": json.dumps(plain(sample["doc"]), ensure_ascii=False),
        "question": question,
        "prompt": str(sample["arguments"][0][0]),
        "response": _text(sample["resps"][0][0], sample["resps"]),
        "filtered": _text(sample["filtered_resps"][0], sample["filtered_resps"]),
        "target": _text(sample["target"], sample["target"]),
        "metrics": [
            {"name": name, "value": float(sample[name])}
            for name in names
            if _is_number(sample[name])
        ],
    }


def read_samples(folder: Path) -> list[EvaluatedSample]:
    """The samples of a finished evaluation, the filters of a document joined.

    Raises:
        DataError: a part is damaged.
    """
    rows = read_rows(folder)
    filters: dict[str, dict[str, None]] = {}
    for row in rows:
        filters.setdefault(row["task"], {})[row["filter"]] = None
    samples: dict[SampleId, EvaluatedSample] = {}
    for row in rows:
        several = len(filters[row["task"]]) > 1
        suffix = f" ({row['filter']})" if several else ""
        sample = samples.setdefault((row["task"], row["doc_id"]), _sample(row))
        for metric in row["metrics"]:
            sample.values[metric["name"] + suffix] = metric["value"]
    return list(samples.values())


def write_results(folder: Path, results: dict[str, Any]) -> None:
    """Writes results.json under a temporary name, then renames it."""
    text = json.dumps(plain(results), indent=1, ensure_ascii=False, allow_nan=False)
    with replacing(folder / RESULTS) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def read_results(folder: Path) -> dict[str, Any]:
    """results.json of a finished evaluation.

    Raises:
        DataError: it is missing or damaged.
    """
    path = folder / RESULTS
    way_out = "delete the folder and evaluate again"
    try:
        results: dict[str, Any] = read_json(path, dict, way_out=way_out)
    except FileNotFoundError:
        raise DataError(f"{path}: is not there; {way_out}") from None
    lacking = [name for name in _FIELDS if not isinstance(results.get(name), dict)]
    if lacking:
        raise DataError(f"{path}: damaged (it has no {', '.join(lacking)}); {way_out}")
    return results


def plain(value: Any) -> Any:
    """The value in JSON's own types: numpy numbers as numbers, NaN as null, the rest as text."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    if callable(value):
        return getattr(value, "__name__", type(value).__name__)
    return str(value)


def _sample(row: Row) -> EvaluatedSample:
    return EvaluatedSample(
        task=row["task"],
        doc_id=row["doc_id"],
        doc=json.loads(row["doc"]),
        question=row["question"],
        response=row["response"],
        target=row["target"],
        values={},
    )


def _text(value: Any, otherwise: Any) -> str:
    return value if isinstance(value, str) else json.dumps(plain(otherwise), ensure_ascii=False)


def _is_number(value: Any) -> bool:
    return isinstance(value, (numbers.Real, np.bool_))

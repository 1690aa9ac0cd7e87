"""Whether the rewards favour long responses, and whether the training rows then do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from eval.reporting.evidence import Evidence
from wrpo.pipeline.tables import parts, read_table
from wrpo.recipe import TARGET
from wrpo.statistics.estimates import Estimate, means
from wrpo.statistics.intervals import Floats

_KEYS = ["prompt_id", "source", "index"]
_BINS = 10
_PAIRS = {"build/triples": ("chosen", "rejected"), "build/pairs": ("chosen", "rejected")}


def length_bias(evidence: Evidence) -> dict[str, Any]:
    """Correlations, curves of score over length, and how often the preferred response is longer.

    Returns:
        `correlation`: by source, the mean over prompts of the rank correlation between length and
        score among its responses to one prompt, and under "all sampled sources" among the responses
        of all of them (responses that came with data have no token counts). `curves`: by source,
        (median length, mean score) of tenths of its responses. `rows`: by training table, `longer`,
        the share of rows whose chosen response has more tokens than the rejected one (equal counts
        half), and both mean lengths.
    """
    lengths = {
        name: _read(evidence, f"sample/{name}", [*_KEYS, "token_count"])
        for name in [*evidence.recipe.sources, TARGET]
        if _has_rows(evidence, f"sample/{name}")
    }
    responses = dict(_scored(evidence, lengths))
    correlation = {name: _correlation([table]) for name, table in responses.items()}
    sources = [table for name, table in responses.items() if name != TARGET]
    if len(sources) > 1:
        correlation["all sampled sources"] = _correlation(sources)
    return {
        "correlation": {name: found for name, found in correlation.items() if found is not None},
        "curves": {name: _curve(table) for name, table in responses.items()},
        "rows": _rows(evidence, list(lengths.values())),
    }


def mean_rank_correlation(prompts: np.ndarray, lengths: Floats, scores: Floats) -> Estimate | None:
    """Mean over prompts of Spearman's correlation among the responses to one prompt.

    Prompts with fewer than three responses, or where all lengths or all scores are equal, say
    nothing and are left out; None when no two prompts are left.
    """
    from scipy.stats import rankdata  # type: ignore[import-untyped]

    order = np.argsort(prompts, kind="stable")
    _, starts, counts = np.unique(prompts[order], return_index=True, return_counts=True)
    found = []
    for count in np.unique(counts[counts >= 3]):
        places = order[starts[counts == count][:, None] + np.arange(count)]
        ranks = [rankdata(values[places], axis=1) for values in (lengths, scores)]
        first, second = (rank - rank.mean(axis=1, keepdims=True) for rank in ranks)
        scale = np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
        product = (first * second).sum(axis=1)
        found.append(product[scale > 0] / scale[scale > 0])
    values = np.concatenate(found) if found else np.zeros(0)
    return means(values[:, None])[0] if len(values) > 1 else None


def _scored(evidence: Evidence, lengths: dict[str, pa.Table]) -> Iterator[tuple[str, pa.Table]]:
    """By source: prompt_id, source, index, token_count and score of every scored response."""
    for name, counted in lengths.items():
        if not _has_rows(evidence, f"score/{name}"):
            continue
        scores = _read(evidence, f"score/{name}", [*_KEYS, "score"])
        joined = counted.join(scores, keys=_KEYS, join_type="inner")
        joined = joined.filter(pc.is_finite(joined["score"])).sort_by("prompt_id")
        if len(joined):
            yield name, joined


def _correlation(tables: list[pa.Table]) -> Estimate | None:
    table = pa.concat_tables(tables)
    prompts = np.array(table["prompt_id"].to_pylist())
    return mean_rank_correlation(prompts, _floats(table["token_count"]), _floats(table["score"]))


def _curve(table: pa.Table) -> list[tuple[float, float]]:
    lengths, scores = _floats(table["token_count"]), _floats(table["score"])
    edges = np.unique(np.quantile(lengths, np.linspace(0, 1, _BINS + 1)))
    places = np.clip(np.searchsorted(edges, lengths, side="right") - 1, 0, max(0, len(edges) - 2))
    return [
        (float(np.median(lengths[places == place])), float(scores[places == place].mean()))
        for place in np.unique(places)
    ]


def _rows(evidence: Evidence, lengths: list[pa.Table]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    if not lengths:
        return found
    samples = pa.concat_tables(lengths)
    for stage, responses in _PAIRS.items():
        if not _has_rows(evidence, stage):
            continue
        first, second = (_row_lengths(evidence, stage, response, samples) for response in responses)
        known = np.isfinite(first) & np.isfinite(second)
        if not known.any():
            continue
        longer = (np.sign(first[known] - second[known]) + 1) / 2
        found[stage] = {
            "longer": means(longer[:, None])[0],
            "chosen": float(first[known].mean()),
            "rejected": float(second[known].mean()),
        }
    return found


def _row_lengths(evidence: Evidence, stage: str, response: str, samples: pa.Table) -> Floats:
    """Tokens of one response of every row; NaN where its sample is not in the run."""
    columns = [f"{response}_source", f"{response}_index"]
    rows = _read(evidence, stage, ["prompt_id", *columns])
    rows = rows.rename_columns(_KEYS).append_column("row", pa.array(range(len(rows))))
    joined = rows.join(samples, keys=_KEYS, join_type="left outer")
    return _floats(joined.sort_by("row")["token_count"])


def _has_rows(evidence: Evidence, stage: str) -> bool:
    return stage in evidence.folders and bool(parts(evidence.folders[stage]))


def _read(evidence: Evidence, stage: str, columns: list[str]) -> pa.Table:
    files = parts(evidence.folders[stage])
    return pa.concat_tables([read_table(path, columns=columns) for path in files])


def _floats(column: pa.ChunkedArray) -> Floats:
    values: Floats = column.to_pandas().to_numpy(dtype=np.float64, na_value=np.nan)
    return values

"""What became of the data of a run: who won, how scores lie, what was dropped and why."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from eval.reporting.evidence import Evidence
from eval.reporting.length_bias import length_bias
from wrpo.pipeline.tables import UNFINISHED, parts, read_table
from wrpo.recipe import TARGET
from wrpo.recipe.resolved import answering_sources

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_WINNERS = {
    "build/sft": ("source", "score"),
    "build/triples": ("source_chosen_source", "source_chosen_score"),
    "build/pairs": ("chosen_source", "chosen_score"),
}
_RESPONSES = {
    "build/triples": ("source_chosen", "chosen", "rejected"),
    "build/pairs": ("chosen", "rejected"),
}


def data_facts(evidence: Evidence) -> dict[str, Any]:
    """All numbers of the data page; what a run has not made is left out."""
    return {
        "winners": _winners(evidence),
        "lengths": _lengths(evidence),
        "length_bias": length_bias(evidence),
        "scores": _scores(evidence),
        "responses": _responses(evidence),
        "truncation": _truncation(evidence),
        "stages": _stages(evidence),
    }


def summarise(values: np.ndarray) -> dict[str, float]:
    """Count, mean and the quantiles 5, 25, 50, 75, 95 of finite values."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return {"n": 0}
    quantiles = np.quantile(finite, QUANTILES)
    named = {f"q{round(100 * q):02d}": float(v) for q, v in zip(QUANTILES, quantiles, strict=True)}
    return {"n": len(finite), "mean": float(finite.mean()), **named}


def _winners(evidence: Evidence) -> dict[str, dict[str, dict[str, float]]]:
    """By table and source: rows it won, their share and mean score."""
    found = {}
    for stage, (who, score) in _WINNERS.items():
        if stage not in evidence.folders:
            continue
        columns = _columns(evidence.folders[stage], [who, score])
        names, scores = np.array(columns[who], dtype=object), _floats(columns[score])
        counts = Counter(names.tolist())
        order = [name for name in (*answering_sources(evidence.recipe), TARGET) if counts[name]]
        order += sorted(set(counts) - set(order))
        found[stage] = {
            name: {
                "rows": counts[name],
                "share": counts[name] / len(names),
                "mean_score": float(scores[names == name].mean()),
            }
            for name in order
        }
    return found


def _lengths(evidence: Evidence) -> dict[str, dict[str, float]]:
    """Token counts of the sampled responses, the share of responses that max_tokens cut off, and
    the share of tokens that are thoughts."""
    found = {}
    for name in [*answering_sources(evidence.recipe), TARGET]:
        folder = evidence.folders.get(f"sample/{name}")
        if folder is None:
            continue
        columns = _columns(folder, ["token_count", "finish_reason", "thought_tokens"])
        cut = sum(reason in UNFINISHED for reason in columns["finish_reason"])
        tokens, thoughts = (_floats(columns[name]) for name in ("token_count", "thought_tokens"))
        shares = {
            "cut": cut / max(1, len(tokens)),
            "thinking": float(np.nansum(thoughts) / max(1.0, np.nansum(tokens))),
        }
        found[name] = {**summarise(tokens), **shares}
    return found


def _scores(evidence: Evidence) -> dict[str, dict[str, float]]:
    """Distribution of the scores of all responses of each source and of the target."""
    names = [*answering_sources(evidence.recipe), TARGET]
    return {
        name: summarise(_floats(_columns(evidence.folders[f"score/{name}"], ["score"])["score"]))
        for name in names
        if f"score/{name}" in evidence.folders
    }


def _responses(evidence: Evidence) -> dict[str, dict[str, dict[str, float]]]:
    """Distribution of the scores of y_ws, y_wt and y_l in each training table, and of the gap."""
    found = {}
    for stage, responses in _RESPONSES.items():
        if stage not in evidence.folders:
            continue
        columns = _columns(evidence.folders[stage], [f"{name}_score" for name in responses])
        scores = {name: _floats(columns[f"{name}_score"]) for name in responses}
        scores["chosen - rejected"] = scores["chosen"] - scores["rejected"]
        found[stage] = {name: summarise(values) for name, values in scores.items()}
    return found


def _truncation(evidence: Evidence) -> dict[str, dict[str, Any]]:
    """What truncation does to each training table, with the limits that were counted for."""
    return {
        name: manifest["truncation"]
        for name, manifest in evidence.manifests()
        if "truncation" in manifest
    }


def _stages(evidence: Evidence) -> dict[str, dict[str, Any]]:
    """Rows kept and dropped by every stage that counts them, with the reasons."""
    return {
        name: {
            "rows": manifest.get("rows"),
            "dropped": manifest.get("dropped", 0),
            "reasons": manifest.get("dropped_reasons", {}),
        }
        for name, manifest in evidence.manifests()
        if manifest.get("rows") is not None and evidence.pipeline[name].kind != "eval"
    }


def _columns(folder: Path, names: list[str]) -> dict[str, list[Any]]:
    tables = [read_table(path, columns=names) for path in parts(folder)]
    return {name: [v for table in tables for v in table[name].to_pylist()] for name in names}


def _floats(values: list[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)

"""Training curves from the logs that the trainers leave."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from eval.reporting.charts import Chart, Point, line_chart

History = Sequence[Mapping[str, Any]]

PANELS: dict[str, dict[str, str]] = {
    "loss": {
        "loss": "loss",
        "preference_loss": "preference part",
        "likelihood_loss": "likelihood part",
        "eval_loss": "held out",
    },
    "alpha": {"alpha": "alpha"},
    "rewards (beta x log-ratio)": {
        "rewards/source_chosen": "source y_ws",
        "rewards/chosen": "target y_wt",
        "rewards/rejected": "rejected y_l",
        "rewards/weighted": "weighted",
    },
    "lengths (tokens)": {
        "lengths/source_chosen": "source y_ws",
        "lengths/chosen": "target y_wt",
        "lengths/rejected": "rejected y_l",
    },
    "reward accuracies": {
        "rewards/accuracies": "preferred > rejected",
        "rewards/source_accuracies": "source > rejected",
        "rewards/target_accuracies": "target > rejected",
    },
    "log-probabilities (nats)": {
        "logps/source_chosen": "source y_ws",
        "logps/chosen": "target y_wt",
        "logps/rejected": "rejected y_l",
    },
    "token accuracy": {"mean_token_accuracy": "token accuracy"},
    "entropy (nats per token)": {"entropy": "entropy"},
    "gradient norm": {"grad_norm": "gradient norm"},
    "learning rate": {"learning_rate": "learning rate"},
}
"""Chart title to metric to its name in the legend."""

FIRST_PANELS = ("loss", "alpha", "rewards (beta x log-ratio)", "lengths (tokens)")
"""Panels that are shown at once; the others open."""

ACROSS = {
    "loss": "loss",
    "alpha": "alpha",
    "rewards/accuracies": "reward accuracy (preferred > rejected)",
}
"""Metrics whose curves of all models share a chart, and the chart's title."""


def curve(history: History, metric: str) -> list[Point]:
    """(step, value) wherever the metric was logged as a finite number."""
    points = []
    for entry in history:
        value = entry.get(metric)
        step = entry.get("step")
        if isinstance(value, int | float) and isinstance(step, int | float):
            points.append((float(step), float(value)))
    return [point for point in points if all(map(math.isfinite, point))]


def panels(history: History) -> dict[str, dict[str, list[Point]]]:
    """The curves of each chart; metrics that were not logged are left out."""
    found = {}
    for title, metrics in PANELS.items():
        series = {label: curve(history, metric) for metric, label in metrics.items()}
        series = {label: points for label, points in series.items() if points}
        if series:
            found[title] = series
    return found


def charts(history: History, *, first: bool) -> list[Chart]:
    """One chart per panel: the first ones, or the others."""
    return [
        line_chart(series, title=title, x_label="optimizer step")
        for title, series in panels(history).items()
        if (title in FIRST_PANELS) == first
    ]


def charts_across(histories: Mapping[str, History]) -> list[Chart]:
    """All models in one chart per metric, where two or more of them logged it."""
    found = []
    for metric, title in ACROSS.items():
        series = {name: curve(history, metric) for name, history in histories.items()}
        series = {name: points for name, points in series.items() if points}
        if len(series) > 1:
            found.append(line_chart(series, title=title, x_label="optimizer step"))
    return found


def endpoints(history: History) -> dict[str, tuple[float, float]]:
    """First and last logged value of each metric of the panels."""
    found = {}
    for metrics in PANELS.values():
        for metric in metrics:
            points = curve(history, metric)
            if points:
                found[metric] = (points[0][1], points[-1][1])
    return found

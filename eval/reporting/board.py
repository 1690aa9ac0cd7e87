"""The scores of all models on the same prompts, as one array per task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from eval.harness.results import EvaluatedSample, SampleId
from eval.reporting.evidence import Evidence
from wrpo.errors import DataError
from wrpo.recipe.suite import suites_of
from wrpo.statistics.estimates import Estimate, differences, means
from wrpo.statistics.intervals import Floats

ORACLE = "best source per prompt"
ALL_PROMPTS = "all"


@dataclass(frozen=True)
class Board:
    """One task: what every model scored on every prompt.

    Attributes:
        task: the name as in the recipe; the prompts of a group are pooled.
        metrics: names; those that the recipe lists come first.
        headline: the metrics that the verdict is about, the primary one first.
        values: shape (prompts, models, metrics).
        groups: the group of each prompt, or empty when there is nothing to break down by.
        lower_is_better: metrics where less is better.
        lengths: mean characters of the responses of each model, for tasks that generate.
        scale: lowest and highest value of ratings; None for other scores.
    """

    task: str
    models: list[str]
    metrics: list[str]
    headline: list[str]
    ids: list[SampleId]
    values: Floats
    groups: list[str]
    lower_is_better: frozenset[str]
    lengths: dict[str, float]
    scale: tuple[float, float] | None = None

    @property
    def primary(self) -> str:
        """The metric that ranks responses and models."""
        return self.headline[0]

    def column(self, model: str, metric: str) -> Floats:
        """The scores of one model, one per prompt."""
        column: Floats = self.values[:, self.models.index(model), self.metrics.index(metric)]
        return column

    def direction(self, metric: str) -> int:
        """1 where more is better, else -1."""
        return -1 if metric in self.lower_is_better else 1

    def best(self, models: list[str], metric: str) -> str:
        """The model with the best mean; the first of equals."""
        means = {name: self.direction(metric) * self.column(name, metric).mean() for name in models}
        return max(means, key=lambda name: means[name])

    def estimates(self, metric: str, *, group: str = ALL_PROMPTS) -> dict[str, Estimate]:
        """Mean and interval of every model over the prompts of a group."""
        chosen = [group in (ALL_PROMPTS, own) for own in self.groups or [""] * len(self.ids)]
        columns = self.values[np.array(chosen), :, self.metrics.index(metric)]
        return dict(zip(self.models, means(columns, scale=self.scale), strict=True))

    def against(self, model: str, others: list[str], metric: str) -> list[Estimate]:
        """The model minus each other one, prompt by prompt."""
        columns = np.stack([self.column(name, metric) for name in others], axis=1)
        return differences(self.column(model, metric), columns, shares=self.scale is None)


def boards(evidence: Evidence) -> list[Board]:
    """One board per task of the recipe, in its order; none where lm-eval evaluated nothing.

    Raises:
        DataError: the models share no prompt of a task.
    """
    results = list(evidence.results.values())
    members: dict[str, list[str]] = results[0]["members"] if results else {}
    return [_board(evidence, task, leaves) for task, leaves in members.items()]


def _board(evidence: Evidence, task: str, leaves: list[str]) -> Board:
    by_model = {
        name: {sample.id: sample for sample in samples if sample.task in leaves}
        for name, samples in evidence.samples.items()
    }
    shared = set.intersection(*(set(samples) for samples in by_model.values()))
    ids = sorted(shared, key=lambda item: (leaves.index(item[0]), item[1]))
    if not ids:
        raise DataError(f"task {task}: {', '.join(by_model)} share no prompt; evaluate them again")
    refuse_other_documents(
        task, by_model, ids, same=lambda one, other: one.doc == other.doc, folders="eval/"
    )
    metrics = _metrics(evidence, by_model, ids)
    values = np.array(
        [
            [[samples[item].values[metric] for metric in metrics] for samples in by_model.values()]
            for item in ids
        ],
        dtype=np.float64,
    )
    board = Board(
        task=task,
        models=list(by_model),
        metrics=metrics,
        headline=_headline(metrics, evidence.recipe.eval.metrics, _stated_metric(evidence, task)),
        ids=ids,
        values=values,
        groups=_groups(
            evidence.recipe.eval.group_by, [by_model[evidence.models[0]][i] for i in ids]
        ),
        lower_is_better=_lower_is_better(evidence, leaves),
        lengths=_lengths(evidence, by_model, ids),
    )
    sources = [name for name in evidence.recipe.sources if name in by_model]
    return with_best_source(board, sources) if len(sources) > 1 else board


def with_best_source(board: Board, sources: list[str]) -> Board:
    """Adds a row: for each prompt the response of the source that is best there.

    Best means the primary metric; the first source of equals. All metrics are those of that one
    response. It knows the scores, so no model can be had that way: an upper line for imitation.
    """
    places = [board.models.index(name) for name in sources]
    metric = board.metrics.index(board.primary)
    ranked = board.direction(board.primary) * board.values[:, places, metric]
    winner = np.array(places)[ranked.argmax(axis=1)]
    row = board.values[np.arange(len(board.ids)), winner][:, None, :]
    return Board(
        **{
            **vars(board),
            "models": [*board.models, ORACLE],
            "values": np.concatenate([board.values, row], axis=1),
        }
    )


def refuse_other_documents(
    task: str,
    by_model: dict[str, dict[SampleId, EvaluatedSample]],
    ids: list[SampleId],
    *,
    same: Callable[[EvaluatedSample, EvaluatedSample], bool],
    folders: str,
) -> None:
    """A document number means the same document for every model, or nothing can be compared.

    Raises:
        DataError: it does not.
    """
    first, *others = by_model
    for name in others:
        for item in ids:
            if not same(by_model[name][item], by_model[first][item]):
                raise DataError(
                    f"task {task}: document {item[1]} of {item[0]} is another one for {name} than "
                    f"for {first}: the data of the task changed between their evaluations. Delete "
                    f"its folders below {folders} and evaluate all models again"
                )


def _metrics(
    evidence: Evidence,
    by_model: dict[str, dict[SampleId, EvaluatedSample]],
    ids: list[SampleId],
) -> list[str]:
    """Metrics that every model has on every shared prompt; the recipe's choice, if it made one."""
    common = dict.fromkeys(next(iter(by_model.values()))[ids[0]].values)
    for samples in by_model.values():
        for item in ids:
            for metric in [name for name in common if name not in samples[item].values]:
                del common[metric]
    wanted = evidence.recipe.eval.metrics
    chosen = [name for metric in wanted for name in common if _base(name) == metric]
    found = chosen or list(common)
    if not found:
        raise DataError("the evaluations have no metric in common that is one number per prompt")
    return found


def _stated_metric(evidence: Evidence, task: str) -> list[str]:
    """The metric that the recipe's suites state for a task, with and without its filter."""
    for suite in suites_of(evidence.recipe.eval):
        for entry in suite.lm_eval().values():
            if entry.task == task:
                return [f"{entry.metric} ({entry.filter})", entry.metric]
    return []


def _headline(metrics: list[str], wanted: list[str], stated: list[str]) -> list[str]:
    """`reward` ranks where a task has one, else the suite's metric, else the first.

    Beside it is the first that the recipe asks for; beside a reward at least the first of all.
    """
    reward = next((name for name in metrics if _base(name) == "reward"), None)
    primary = reward or next((name for name in stated if name in metrics), metrics[0])
    asked = [name for name in metrics if _base(name) in wanted]
    asked += [metrics[0]] if reward else [primary]
    return list(dict.fromkeys([primary, asked[0]]))


def _lengths(
    evidence: Evidence, by_model: dict[str, dict[SampleId, EvaluatedSample]], ids: list[SampleId]
) -> dict[str, float]:
    tasks = next(iter(evidence.results.values()))["tasks"]
    generated = [item for item in ids if tasks[item[0]]["generation_kwargs"]]
    if not generated:
        return {}
    return {
        name: float(np.mean([len(samples[item].response) for item in generated]))
        for name, samples in by_model.items()
    }


def _groups(field: str | None, samples: list[EvaluatedSample]) -> list[str]:
    """The field of the document; else the task within a group of tasks."""
    if field is not None and all(field in sample.doc for sample in samples):
        return [str(sample.doc[field]) for sample in samples]
    tasks = [sample.task for sample in samples]
    return tasks if len(set(tasks)) > 1 else []


def _lower_is_better(evidence: Evidence, leaves: list[str]) -> frozenset[str]:
    tasks = next(iter(evidence.results.values()))["tasks"]
    lower = set()
    for leaf in leaves:
        for name, metric in tasks.get(leaf, {"metrics": {}})["metrics"].items():
            if metric["higher_is_better"] is False:
                base, _, filter_ = name.partition(",")
                lower |= {base, f"{base} ({filter_})"}
    return frozenset(lower)


def _base(metric: str) -> str:
    return metric.partition(" (")[0]

"""What a preference trainer reports: means over the prompts of all ranks since the last log."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from trl import DPOTrainer


class ReportingTrainer(DPOTrainer):
    """A DPOTrainer whose metrics are sums and weights, so that unequal batches average right."""

    _total_train_tokens: int | Tensor

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._sums = {"train": MetricSums(), "eval": MetricSums()}
        # Weights of the objective in the last update of each mode, by name.
        self._weights: dict[str, dict[str, float]] = {}

    @property
    def _mode(self) -> str:
        return "train" if self.model.training else "eval"

    def _record(self, metrics: dict[str, Tensor], inputs: Mapping[str, Tensor]) -> None:
        """Add (n,) metrics of this batch; every rank must call it."""
        weights = {"entropy": inputs["lengths"].sum(dim=1)}
        metrics["entropy"] = metrics["entropy"] / weights["entropy"]
        pairs = weigh(metrics, weights)
        if self._mode == "train":
            self._total_train_tokens = self._total_train_tokens + inputs["tokens"].sum()
            totals = pairs.sum(dim=0)
        else:  # drops the rows that fill up the last batch of the evaluation set
            totals = self.accelerator.gather_for_metrics(pairs).sum(dim=0)
        self._sums[self._mode].add(dict(zip(metrics, totals, strict=True)))

    def recorded(self) -> Any:
        """What is not yet logged of the training steps, for `restore`."""
        return self._sums["train"].copy(), self._total_train_tokens

    def restore(self, recorded: Any) -> None:
        """Forgets what was recorded since."""
        self._sums["train"], self._total_train_tokens = recorded

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the metrics gathered since the last call to `logs` and report them."""
        mode = self._mode
        # The ranks meet here and not in every micro-batch; all of them log.
        metrics = self._sums[mode].pop_means(self._over_ranks if mode == "train" else None)
        if metrics:
            metrics |= self._weights.get(mode, {})
        if mode == "train":
            metrics.pop("loss", None)
            if metrics:
                metrics["num_tokens"] = self._tokens_logged() + int(
                    self._over_ranks(self._total_train_tokens)
                )
                self._total_train_tokens = 0
        else:
            prefix = _evaluation_prefix(logs)
            metrics = {f"{prefix}{name}": value for name, value in metrics.items()}
        logs.update(metrics)
        # Not the parent's log, which averages batch means and knows one evaluation prefix only.
        super(DPOTrainer, self).log(logs, start_time)

    def _over_ranks(self, values: int | Tensor) -> Tensor:
        values = torch.as_tensor(values, device=self.accelerator.device)
        total: Tensor = self.accelerator.reduce(values, "sum")
        return total

    def _tokens_logged(self) -> int:
        """Tokens trained on up to the last log, with those of the run that this one resumes."""
        history = reversed(self.state.log_history)
        return next((entry["num_tokens"] for entry in history if "num_tokens" in entry), 0)


def _evaluation_prefix(logs: Mapping[str, float]) -> str:
    """Prefix of an evaluation's own entries: "eval_", or "eval_NAME_" for one of several sets."""
    names = (name for name in logs if name.endswith("_loss"))
    return next(names, "eval_loss").removesuffix("loss")


class MetricSums:
    """Weighted means of named quantities, accumulated on the device without a host sync."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, sums: Mapping[str, Tensor]) -> None:
        """Add (weighted sum, weight) of each quantity, each of shape (2,)."""
        for name, pair in sums.items():
            self._sums[name] = self._sums[name] + pair if name in self._sums else pair

    def copy(self) -> "MetricSums":
        """The same sums; adding to one leaves the other as it is."""
        other = MetricSums()
        other._sums = dict(self._sums)
        return other

    def pop_means(self, total: Callable[[Tensor], Tensor] | None = None) -> dict[str, float]:
        """Mean of every quantity since the last call; forgets them.

        total: adds up the sums of all ranks.
        """
        if not self._sums:
            return {}
        pairs = torch.stack(list(self._sums.values()))
        pairs = total(pairs) if total else pairs
        means = {n: s / w for n, (s, w) in zip(self._sums, pairs.tolist(), strict=True) if w > 0}
        self._sums = {}
        return means


def response_metrics(
    logps: Mapping[str, Tensor], lengths: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Summed log-probability and token count of each forwarded response, each (n,)."""
    metrics = {f"logps/{name}": values for name, values in logps.items()}
    return metrics | {f"lengths/{name}": values for name, values in lengths.items()}


def weigh(values: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Tensor:
    """(value * weight, weight) of each quantity and example, shape (n, quantities, 2), float32.

    The weight is 1 for a quantity that `weights` does not name.
    """
    columns = []
    for name, value in values.items():
        value = value.detach().float()
        weight = weights[name].float() if name in weights else torch.ones_like(value)
        columns.append(torch.stack([value * weight, weight], dim=-1))
    return torch.stack(columns, dim=1)

"""Reference log-probabilities of a trainer: from columns, a model, or the adapter off."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from accelerate.utils import is_peft_model
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_utils import is_fsdp_enabled

from wrpo.collator import by_response, reference_logps
from wrpo.config import WRPOConfig
from wrpo.errors import DataError
from wrpo.rows.columns import has_reference, name_reference_columns, reference_column
from wrpo.training.batches.micro_batches import MicroBatches, StepRows
from wrpo.training.batches.token_balanced_sampler import batches_by_length
from wrpo.training.batches.token_budget import TokenBudget, batches_that_fit, meter_of
from wrpo.training.checks import column_names
from wrpo.training.metrics import ReportingTrainer
from wrpo.training.settings import AUTO
from wrpo.training.trl_seam import disable_gradient_checkpointing, use_adapter

_MOST_ROWS = 512
"""Of which the precomputing pass makes batches by tokens at a time."""


def settle_precomputing(
    args: WRPOConfig, model: Any, train_dataset: Any, *, is_reference: bool
) -> None:
    """Settles `precompute_ref_log_probs` where it is None: on where that is no dearer than a copy.

    A pass forwards every row once, keeping a model forwards what training sees, and takes its
    memory. Adapters are switched off instead, which takes none; dropout would be in the pass alone;
    under FSDP, TRL loads a second model for the pass all the same; and of several processes, only
    the first would find the file in which TRL keeps the log-probs of a data set in memory.

    Also keeps the pass to batches of the size that was asked for, not to whole optimizer steps.

    Args:
        is_reference: whether the policy, as it was handed over and whole, is the reference.
    """
    if args.precompute_ref_batch_size is None:
        args.precompute_ref_batch_size = args.per_device_train_batch_size
    if args.precompute_ref_log_probs is not None:
        return
    several = is_fsdp_enabled() or args.world_size > 1
    kept = several or not args.disable_dropout or args.sync_ref_model
    whole = isinstance(model, (str, PreTrainedModel)) and hasattr(train_dataset, "__len__")
    args.precompute_ref_log_probs = (
        is_reference
        and whole
        and not kept
        and _rows_seen(args, train_dataset) >= len(train_dataset)
    )


def _rows_seen(args: WRPOConfig, dataset: Any) -> float:
    """Of one process."""
    if args.max_steps <= 0:
        return float(args.num_train_epochs) * len(dataset)
    return args.max_steps * args.train_batch_size * args.gradient_accumulation_steps


class _NotCollated:
    """In the place of a collator: hands out the rows themselves, and has the collator ready.

    Attributes:
        layout: of the batches to come.
    """

    def __init__(self, collate: Any) -> None:
        self.collate, self.layout = collate, getattr(collate, "layout", None)

    def __call__(self, rows: Sequence[Any]) -> StepRows:
        return StepRows(rows)


def _even_share(rows: int, processes: int) -> int:
    """Rows that a process takes at a time, such that all are busy to the last.

    >>> _even_share(1100, 2), _even_share(7, 2)
    (275, 4)
    """
    times = max(1, -(-rows // (_MOST_ROWS * processes)))
    return max(1, -(-rows // (times * processes)))


class ReferencedTrainer(MicroBatches, ReportingTrainer):
    """A trainer with a reference, which it forwards with the policy or once before training.

    Attributes:
        _scored: responses that need reference log-probabilities.
        _pass_tokens: "auto", or most tokens of a forward pass before training; None for numbers of
            rows.
    """

    _scored: tuple[str, ...]
    _pass_tokens: int | str | None = None
    _pass_budget: TokenBudget

    def _settle_layout(self) -> None:
        raise NotImplementedError

    def _forward(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> Any:
        raise NotImplementedError

    @cached_property
    def _has_adapters(self) -> bool:
        return bool(is_peft_model(self.model))

    @cached_property
    def _bare_models(self) -> dict[nn.Module, Any]:
        return {}

    def _bare(self, model: nn.Module) -> Any:
        """A model without what distributes it.

        accelerate looks on the disk for installed packages whenever it unwraps a model, 4 ms.
        """
        if model not in self._bare_models:
            self._bare_models[model] = self.accelerator.unwrap_model(model)
        return self._bare_models[model]

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        if has_reference(column_names(dataset), self._scored):
            return dataset
        self._settle_layout()  # the parent's constructor may come here first
        # Where weights are sharded, all processes need equal numbers of forward passes.
        if self._pass_tokens is None or not self._agreement.possible:
            dataset = super()._precompute_ref_logps(dataset, name, batch_size)
        else:
            with self._rows_as_batches():
                rows = _even_share(len(dataset), self.accelerator.num_processes)
                dataset = super()._precompute_ref_logps(dataset, name, rows)
        return name_reference_columns(dataset, responses=self.args.responses, scored=self._scored)

    @contextlib.contextmanager
    def _rows_as_batches(self) -> Iterator[None]:
        """The parent's pass takes rows, which `compute_ref_log_probs` then cuts by tokens."""
        meter = meter_of(self.accelerator.device)
        self._pass_budget = TokenBudget(self._pass_tokens or AUTO, longest=0, meter=meter)
        own, self.data_collator = self.data_collator, _NotCollated(self.data_collator)
        try:
            yield
        finally:
            self.data_collator = own

    def compute_ref_log_probs(
        self, model: nn.Module, inputs: Mapping[str, Tensor] | StepRows
    ) -> tuple[Tensor, Tensor]:
        """Reference log-probabilities of a batch or of rows, as TRL's pass takes them.

        Returns all forwarded responses but the last, (n, r - 1), and the last, (n,).
        """
        if isinstance(inputs, StepRows):
            logps = self._reference_of_rows(model, inputs.rows)
        else:
            logps = self._reference_pass(model, inputs)
        return logps[:, :-1], logps[:, -1]

    def _reference_of_rows(self, model: nn.Module, rows: Sequence[Any]) -> Tensor:
        """(n, r), in batches of as many tokens as the budget has."""
        found: list[Tensor] = [torch.empty(0)] * len(rows)

        def plan(rows: Sequence[Any], tokens: int) -> list[list[int]]:
            return batches_by_length(self.row_costs(rows).rows, tokens)

        def compute(rows: Sequence[Any]) -> Tensor:
            batch = self._prepare_inputs(self.data_collator.collate(rows))
            with self._pass_budget.micro_batch(batch["input_ids"].numel()):
                return self._reference_pass(model, batch)

        for places, logps in batches_that_fit(rows, self._pass_budget, plan=plan, compute=compute):
            for place, row in zip(places, logps, strict=True):
                found[place] = row
        return torch.stack(found)

    def _reference_pass(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        with (
            torch.no_grad(),
            self._without_checkpointing(),
            self._reference_adapter(),
            self.accelerator.autocast(),
        ):
            outputs = self._forward(model, inputs)
        return by_response(outputs.log_probs, inputs)

    def _without_checkpointing(self) -> contextlib.AbstractContextManager[None]:
        """Of a policy that is its own reference; looks at all modules, so not without need."""
        if self.ref_model is not None or not self.args.gradient_checkpointing:
            return contextlib.nullcontext()
        options = self.args.gradient_checkpointing_kwargs
        off: contextlib.AbstractContextManager[None] = disable_gradient_checkpointing(
            self.model, options
        )
        return off

    def _reference_adapter(self) -> contextlib.AbstractContextManager[None]:
        if self.ref_model is not None or not self._has_adapters:
            return contextlib.nullcontext()
        policy = self._bare(self.model)
        return use_adapter(policy, "ref" if "ref" in policy.peft_config else None)

    def _reference_logps(self, inputs: Mapping[str, Tensor]) -> Tensor | None:
        if self.args.reference_free:
            return None
        if "reference_bits" in inputs:
            return reference_logps(inputs)
        if self.ref_model is None and not self._has_adapters:
            raise DataError(
                f"a batch has no {', '.join(map(reference_column, self._scored))} and there is no "
                "reference model to compute them; add the columns to this data set"
            )
        # Not `or`: a compiled model has no truth value.
        reference = self.model if self.ref_model is None else self.ref_model
        return self._reference_pass(reference, inputs)

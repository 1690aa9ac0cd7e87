"""Trainer of the weighted-reward preference objective, on top of TRL's DPOTrainer.

The parent loads and prepares the models, the reference, PEFT and the optimizer; this module
replaces what knows about pairs: the rows, the batch, the loss and the metrics.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from accelerate.logging import get_logger
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from wrpo.collator import (
    DataCollatorForWRPO,
    by_response,
    padded_layout,
    row_weights,
    tokens_taken,
)
from wrpo.config import WRPOConfig
from wrpo.errors import DataError, RecipeError
from wrpo.losses import implicit_rewards, likelihood_term
from wrpo.objectives.base import END, Progress
from wrpo.prefix.choose import LayoutOptions, settle_layout
from wrpo.prefix.fused_head import causal_model, fused_pass
from wrpo.prefix.moe_aux_loss import balancing_loss
from wrpo.prefix.packing import PackedLayout, carry_segments
from wrpo.prefix.timed_trial import typical_rows
from wrpo.rows.columns import ROW_WEIGHT, SCORE_COLUMNS, has_reference, reference_column
from wrpo.rows.prepare import prepare_dataset
from wrpo.rows.token_ids import RowSettings
from wrpo.rows.truncation import CutCounts
from wrpo.training.batches.micro_batches import Costs, take_whole_steps
from wrpo.training.batches.slicing import refuse_slicing, require_whole, take_whole_batches
from wrpo.training.batches.token_balanced_sampler import balance_micro_batches
from wrpo.training.checks import (
    PAPER,
    check_arguments,
    column_names,
    frozen_copy,
    model_name,
    refuse_layout_beside_collator,
    refuse_two_references,
    refuse_unused_reference,
    refuse_wrapped_head,
    tokenizer_of,
)
from wrpo.training.metrics import response_metrics
from wrpo.training.reference_pass import ReferencedTrainer, settle_precomputing
from wrpo.training.trl_seam import (
    add_fused_lm_head,
    global_then_local_main_first,
    without_reference_model,
)

logger = get_logger(__name__)

_TIMED_ROWS = 8


class WRPOTrainer(ReferencedTrainer):
    """Train a policy on triples (source_chosen, chosen, rejected); used like TRL's trainers.

        trainer = WRPOTrainer(model="path/or/id", args=WRPOConfig(...), train_dataset=triples)
        trainer.train()

    Arguments are those of `trl.DPOTrainer`, except that `processing_class` must be a tokenizer and
    `compute_metrics` is not supported (no logits are kept). `wrpo.rows.token_ids` lists what
    rows may look like. `trainer.cut_counts` says, per data set, how many rows were cut.

    Reference log-probabilities come from, in this order:

    1. the columns ref_source_chosen_logps, ref_chosen_logps, ref_rejected_logps (nats, summed over
       the response), when the data sets have them. No reference model is loaded. (Under FSDP, TRL
       loads one for the length of the constructor.) Columns ref_*_length are checked if present;
    2. `ref_model`;
    3. the adapter switched off, when the policy is a PEFT model;
    4. the policy as it was handed over: in one pass before training (precompute_ref_log_probs, the
       default where one process sees every row at least once), else by a frozen copy of it.

    The loss of an optimizer step is the mean over its prompts, over all micro-batches and ranks,
    also when micro-batches differ in size. Evaluation uses the final alpha.

    Metrics are means over the prompts of all ranks since the last log. A reward is beta times the
    implicit reward u of `wrpo.losses`: a log-ratio, per token in the length-normalised losses.

    * alpha: weight of the source in the most recent update (the final one in evaluation);
    * rewards/source_chosen, rewards/chosen (target), rewards/rejected, and rewards/weighted =
      alpha * source + (1 - alpha) * target;
    * rewards/margins = weighted - rejected; rewards/accuracies: share with weighted > rejected;
      rewards/source_accuracies and rewards/target_accuracies: source or target > rejected;
    * logps/* (nats per response) and lengths/* (tokens) of source_chosen, chosen, rejected;
    * preference_loss and likelihood_loss, when likelihood_weight is set;
    * entropy (nats per response token), num_tokens (so far, no padding), aux_loss (experts).

    With objective "dpo", rewards/* are chosen, rejected, accuracies and margins of the pair; with
    "cgpo" those of the responses and the anchor, and undesirable_weight takes the place of alpha.
    """

    loss_is_scaled_for_ga = True
    _tag_names: ClassVar[list[str]] = ["trl", "wrpo"]
    _name = "WRPO"
    _signature_columns: list[str] | None
    _paper: ClassVar[dict[str, str]] = PAPER

    def __init__(
        self,
        model: Any,
        ref_model: PreTrainedModel | None = None,
        args: WRPOConfig | None = None,
        data_collator: Any = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        compute_metrics: None = None,
        callbacks: list[Any] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        quantization_config: Any = None,
        peft_config: Any = None,
    ) -> None:
        args = args if args is not None else WRPOConfig(f"{model_name(model)}-WRPO")
        check_arguments(args, train_dataset, processing_class, compute_metrics)
        take_whole_batches(args)
        settings = args.objective_settings
        self._objective, self._likelihood = settings.build(), settings.likelihood_term
        self._scored = () if args.reference_free else self._objective.responses
        self._reference_supplied = has_reference(column_names(train_dataset), self._scored)
        others = args.reference_free or self._reference_supplied or ref_model is not None
        is_reference = not others and peft_config is None
        self._pass_tokens = None if args.precompute_ref_batch_size else args.micro_batch_tokens
        settle_precomputing(args, model, train_dataset, is_reference=is_reference)
        self.budget_tokens = args.micro_batch_tokens
        if self.budget_tokens is not None:
            take_whole_steps(args)
        tokenizer = processing_class or tokenizer_of(model, args)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        self._row_settings = RowSettings(
            responses=args.responses,
            limits=args.limits,
            fold_system=args.fold_system,
            needs_scores=args.needs_scores,
            cache_key=f"{args.mixed_precision}",
        )
        self.cut_counts: dict[str, CutCounts] = {}
        self._own_collator, self._layout_settled = data_collator is None, False
        if self._reference_supplied:
            refuse_two_references(ref_model)
        elif args.reference_free:
            refuse_unused_reference(ref_model, args)
        elif is_reference and not args.precompute_ref_log_probs:
            ref_model = frozen_copy(model)
        needs_no_model = self._reference_supplied or args.reference_free
        super().__init__(
            model=model,
            ref_model=ref_model,
            args=without_reference_model(args) if needs_no_model else args,
            data_collator=data_collator or self._collator(args, tokenizer),
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=tokenizer,
            callbacks=callbacks,
            optimizers=optimizers,
            quantization_config=quantization_config,
            peft_config=peft_config,
        )
        self.args.precompute_ref_log_probs = args.precompute_ref_log_probs
        self.precompute_ref_logps = args.precompute_ref_log_probs and not self._reference_supplied
        refuse_slicing(args, parallelism=self.accelerator.parallelism_config)
        bare = causal_model(self.model)
        refuse_wrapped_head(bare)
        # The parent also has the head compute what only its own metrics read.
        add_fused_lm_head(bare, outputs=("log_probs", "entropy"))
        self._settle_layout()

    def _collator(
        self, args: WRPOConfig, tokenizer: PreTrainedTokenizerBase
    ) -> DataCollatorForWRPO:
        return DataCollatorForWRPO(
            pad_token_id=tokenizer.pad_token_id,
            responses=args.responses,
            scored=self._scored,
            needs_scores=args.needs_scores,
            pad_to_multiple_of=args.pad_to_multiple_of,
        )

    def _settle_layout(self) -> None:
        if self._layout_settled:
            return
        self._layout_settled = True
        if not self._own_collator:
            refuse_layout_beside_collator(self.args)
            logger.info("triple_layout: that of the data_collator that was passed")
            return
        self.data_collator.layout = settle_layout(
            [model for model in (self.model, self.ref_model) if model is not None],
            LayoutOptions(
                layout=self.args.triple_layout,
                row_tokens=self.args.packed_row_tokens,
                max_length=self.args.max_length,
                dropout=not self.args.disable_dropout,
                trains=True,
                checkpointing=self.args.gradient_checkpointing,
                responses=self.args.responses,
            ),
            accelerator=self.accelerator,
            rows=typical_rows(self.train_dataset, min(self._train_batch_size, _TIMED_ROWS)),
        )

    # ---- data -----------------------------------------------------------------------------------

    def _prepare_dataset(
        self, dataset: Any, processing_class: Any, args: WRPOConfig, dataset_name: str
    ) -> Any:
        if self._reference_supplied and not has_reference(column_names(dataset), self._scored):
            raise DataError(
                f"{dataset_name} dataset: no {', '.join(map(reference_column, self._scored))}, "
                "which the training set has; compute them with the same reference model, or drop "
                "them from the training set"
            )
        with global_then_local_main_first():
            dataset, counts = prepare_dataset(
                dataset,
                tokenizer=processing_class,
                settings=self._row_settings,
                name=dataset_name,
                num_proc=args.dataset_num_proc,
            )
        if counts is not None:
            self.cut_counts[dataset_name] = counts
            for line in counts.describe(f"{dataset_name} dataset", args.limits):
                logger.warning(line)
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        if self._signature_columns is None:
            self._signature_columns = [
                "prompt_ids",
                *(f"{name}_ids" for name in self._row_settings.responses),
                *(reference_column(name) for name in self._scored),
                *SCORE_COLUMNS,
                ROW_WEIGHT,
                "length",
            ]

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        sampler = super()._get_train_sampler(dataset)
        if not isinstance(getattr(self.data_collator, "layout", None), PackedLayout):
            return sampler  # padding, not tokens, decides what a padded batch costs
        return balance_micro_batches(
            sampler,
            dataset,
            args=self.args,
            batch_size=self._train_batch_size,
            accelerator=self.accelerator,
        )

    def row_costs(self, rows: Sequence[Any]) -> Costs:
        padded = not isinstance(getattr(self.data_collator, "layout", None), PackedLayout)
        responses = self._row_settings.responses
        return Costs([tokens_taken(row, responses, padded=padded) for row in rows], padded)

    def longest_row(self) -> int:
        return max(self.train_dataset["length"][:]) + len(self._row_settings.responses)

    def _get_num_items_in_batch(
        self, batch_samples: list[Any], device: torch.device
    ) -> Tensor | None:
        """Prompts of one optimizer step, over its micro-batches and all ranks."""
        if not batch_samples:
            return None
        prompts = sum(batch["lengths"].shape[0] for batch in batch_samples)
        return self.accelerator.gather(torch.tensor([prompts], device=device)).sum()

    # ---- loss -----------------------------------------------------------------------------------

    @property
    def progress(self) -> Progress:
        """How far training is; while evaluating, the end."""
        if not self.model.training:
            return END
        return Progress(self.state.global_step, self.state.max_steps)

    @property
    def alpha(self) -> float:
        """Weight of the source response in the current optimizer step."""
        return self._objective.weights(self.progress).get("alpha", 0.0)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Loss of one micro-batch, a scalar.

        With `num_items_in_batch` (prompts of the optimizer step on all ranks) the losses of all
        micro-batches and ranks add up to the mean over those prompts, once the ranks are averaged.
        Without it, the loss is the mean over this batch.
        """
        if return_outputs:
            raise RecipeError("return_outputs is True, but WRPOTrainer keeps no logits to return")
        outputs, balancing = self._policy_pass(model, inputs)
        logps = by_response(outputs.log_probs, inputs)
        losses, metrics = self._losses(logps, self._reference_logps(inputs), inputs)
        scale = 1.0
        if num_items_in_batch is not None:
            scale = len(losses) * self.accelerator.num_processes / num_items_in_batch
        loss = losses.mean() * scale
        if balancing is not None:
            weighted = self.router_aux_loss_coef * balancing
            loss = loss + weighted * scale
            metrics["loss"] = losses + weighted
            metrics["aux_loss"] = balancing.expand(len(losses))
        entropy = by_response(outputs.entropy.detach(), inputs).sum(dim=1)
        self._record({**metrics, "entropy": entropy}, inputs)
        return loss

    def _policy_pass(
        self, model: nn.Module, inputs: Mapping[str, Tensor]
    ) -> tuple[Any, Tensor | None]:
        """Outputs and, if it is part of the loss, the balancing loss of a mixture of experts."""
        if not self.aux_loss_enabled:
            return self._forward(model, inputs), None
        weights = inputs.get("token_weights", inputs.get("attention_mask"))
        with balancing_loss(self._bare(model), weights) as balance:
            outputs = self._forward(model, inputs)
        return outputs, balance.loss

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        moved = super()._prepare_inputs(inputs)
        carry_segments(inputs.get("attention_mask"), moved.get("attention_mask"))
        return moved

    def _forward(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> Any:
        layout = getattr(self.data_collator, "layout", None)
        require_whole(inputs, padded=layout is padded_layout)
        return fused_pass(model, inputs, bare=self._bare(model))

    def _losses(
        self, logps: Tensor, reference: Tensor | None, inputs: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and metrics of each prompt, all (n,), from summed log-probabilities (n, r)."""
        rewards = implicit_rewards(
            logps,
            reference,
            inputs["lengths"],
            length_normalised=self._objective.length_normalised,
        )
        losses, metrics = self._objective(self._by_name(rewards), self.progress)
        self._weights[self._mode] = self._objective.weights(self.progress)
        named, lengths = self._by_name(logps), self._by_name(inputs["lengths"])
        metrics |= response_metrics(named, lengths)
        if self._likelihood.weight > 0:
            likelihood = likelihood_term(
                named,
                lengths,
                on=self._likelihood.on,
                source_is_better=inputs.get("source_is_better"),
            )
            metrics |= {"preference_loss": losses, "likelihood_loss": likelihood}
            losses = losses + self._likelihood.weight * likelihood
        weights = row_weights(inputs)
        if weights is not None:
            losses = losses * weights
        return losses, {"loss": losses, **metrics}

    def _by_name(self, values: Tensor) -> dict[str, Tensor]:
        return dict(zip(self._row_settings.responses, values.unbind(dim=1), strict=True))

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor, None, None]:
        """Evaluation loss of one batch; there are no logits to return."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            return self.compute_loss(model, inputs).detach(), None, None

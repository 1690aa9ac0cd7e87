"""Where our trainers touch what TRL and transformers do not document; docs/trl-versions.md.

`CONTACTS` is the whole list. `tests/contracts/test_trl_seam.py` holds it against the code, which
may touch nothing else, and against the installed releases, which must still have all of it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from transformers.integrations import deepspeed
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import (
    add_fused_lm_head,
    get_config_model_id,
    global_then_local_main_first,
    use_adapter,
)

from wrpo.config import WRPOConfig

__all__ = [
    "CONTACTS",
    "Contact",
    "add_fused_lm_head",
    "disable_gradient_checkpointing",
    "get_config_model_id",
    "global_then_local_main_first",
    "use_adapter",
    "whole_weights",
    "without_reference_model",
]


def without_reference_model(args: WRPOConfig) -> WRPOConfig:
    """A copy of the options with which DPOTrainer's constructor loads no reference model.

    It loads none where log-probs are precomputed; there is no other switch.
    """
    own = copy.copy(args)
    own.precompute_ref_log_probs = True
    return own


@contextmanager
def whole_weights() -> Iterator[None]:
    """Models are loaded whole, on this process alone, also where DeepSpeed would partition them."""
    config = deepspeed._hf_deepspeed_config_weak_ref
    deepspeed._hf_deepspeed_config_weak_ref = None
    try:
        yield
    finally:
        deepspeed._hf_deepspeed_config_weak_ref = config


class Contact(NamedTuple):
    """One name that is not part of a documented interface.

    Attributes:
        place: "module:name", or "module:class.name" for what a trainer class has.
        why: what is relied on.
    """

    place: str
    why: str


_DPO = "trl:DPOTrainer"
_GOLD = "trl.experimental.gold:GOLDTrainer"

CONTACTS = (
    # Functions of TRL.
    Contact("trl.models.utils:disable_gradient_checkpointing", "the reference pass needs none"),
    Contact("trl.trainer.utils:add_fused_lm_head", "log-probs and entropy without logits"),
    Contact("trl.trainer.utils:get_config_model_id", "name or path of a loaded model"),
    Contact("trl.trainer.utils:global_then_local_main_first", "rank 0 prepares the rows first"),
    Contact("trl.trainer.utils:use_adapter", "the adapter off, or its copy, as the reference"),
    # Methods that WRPOTrainer or ReportingTrainer replaces: the parent must still call them.
    Contact(f"{_DPO}._prepare_dataset", "called once per data set, with its name"),
    Contact(f"{_DPO}._precompute_ref_logps", "called where log-probs are precomputed"),
    Contact(f"{_DPO}._set_signature_columns_if_needed", "names the columns that stay"),
    Contact(f"{_DPO}._get_train_sampler", "transformers asks it for the order of the rows"),
    Contact(f"{_DPO}._get_num_items_in_batch", "prompts of an optimizer step on all ranks"),
    Contact(f"{_DPO}.compute_ref_log_probs", "called batch by batch while precomputing"),
    Contact(f"{_DPO}.compute_loss", "loss of one micro-batch"),
    Contact(f"{_DPO}._prepare_inputs", "moves a batch to the device"),
    Contact(f"{_DPO}.prediction_step", "loss of one evaluation batch"),
    Contact(f"{_DPO}.log", "the parent's own means are left out"),
    # Methods that MicroBatches replaces in a trainer of either kind.
    Contact(f"{_DPO}.get_train_dataloader", "its collator is put away while rows are handed out"),
    Contact(f"{_DPO}.get_batch_samples", "the batches of one optimizer step, here one batch"),
    Contact(f"{_DPO}.training_step", "called once per optimizer step, calls the parent's in turn"),
    Contact(f"{_DPO}._track_num_input_tokens", "counts what training_step was given"),
    Contact(f"{_DPO}.floating_point_ops", "operations of what training_step was given"),
    # Attributes of the classes and of a trainer that is made.
    Contact(f"{_DPO}.loss_is_scaled_for_ga", "the loss is divided by the prompts already"),
    Contact(f"{_DPO}._name", "name in the model card"),
    Contact(f"{_DPO}._paper", "citation in the model card"),
    Contact(f"{_DPO}._tag_names", "tags of the model card"),
    Contact(f"{_DPO}()._signature_columns", "None until they are named"),
    Contact(f"{_DPO}()._total_train_tokens", "tokens since the last log"),
    Contact(f"{_DPO}()._train_batch_size", "rows of a micro-batch"),
    Contact(f"{_DPO}().precompute_ref_logps", "whether evaluation sets are precomputed too"),
    Contact(f"{_DPO}().aux_loss_enabled", "a mixture of experts with its balancing loss"),
    Contact(f"{_DPO}().router_aux_loss_coef", "the weight of that loss"),
    Contact("transformers:TrainingArguments()._n_gpu", "1 keeps torch.nn.DataParallel away"),
    # GOLDTrainer, whose teacher's inputs are made anew.
    Contact(_GOLD, "batches of rows among batches that the student samples, and their labels"),
    Contact("trl.experimental.gold.gold_trainer:ULDLoss", "the loss, from logits and byte offsets"),
    Contact("trl.experimental.utils:DataCollatorForChatML", "batches of token ids"),
    Contact(f"{_GOLD}.compute_loss", "loss of one micro-batch, sampled or not"),
    Contact(f"{_GOLD}().uld_loss_fn", "called with both models' logits, labels, ids and offsets"),
    Contact(f"{_GOLD}().teacher_model", "prepared for the device"),
    Contact(f"{_GOLD}().generation_config", "at which tokens sampled responses end"),
    Contact(f"{_GOLD}()._metrics", "means that the next log has"),
    # Functions of transformers.
    Contact(
        "transformers.modeling_utils:is_deepspeed_zero3_enabled",
        "whole weights are nowhere: no frozen copy in memory",
    ),
    Contact("transformers.modeling_utils:is_fsdp_enabled", "the same under FSDP"),
    Contact(
        "transformers.modeling_flash_attention_utils:flash_attn_supports_top_left_mask",
        "which corner a causal mask of the installed flash-attn starts from",
    ),
    Contact(
        "transformers.modeling_flash_attention_utils:_flash_attention_forward",
        "variable-length attention over the segments of a packed row",
    ),
    Contact(
        "transformers.integrations:deepspeed",
        "its config is put away while a saved model is loaded whole to compare it",
    ),
    Contact("transformers.integrations.flash_attention:get_target_dtype", "dtype under autocast"),
    Contact("transformers.integrations.sdpa_attention:sdpa_attention_forward", "one segment"),
    Contact("transformers.masking_utils:flash_attention_mask", "of batches that are not packed"),
    Contact("transformers.masking_utils:sdpa_mask", "of batches that are not packed"),
    Contact(
        "transformers.masking_utils:ALL_MASK_ATTENTION_FUNCTIONS",
        "whether an attention of some name is told windows by a mask",
    ),
    Contact(
        "transformers.modeling_utils:ALL_ATTENTION_FUNCTIONS",
        "which terms of a model an attention of some name takes",
    ),
    Contact(
        "transformers.models.mixtral.modeling_mixtral:load_balancing_loss_func",
        "balancing loss of a mixture of experts",
    ),
    Contact(
        "transformers.trainer_pt_utils:BatchRebalanceSampler",
        "micro-batches of equal cost on all ranks",
    ),
)

"""What WRPOTrainer settles before TRL's constructor runs: checks, tokenizer, frozen reference."""

import copy
import textwrap
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_utils import is_deepspeed_zero3_enabled, is_fsdp_enabled

from wrpo.config import WRPOConfig
from wrpo.errors import RecipeError
from wrpo.training.trl_seam import get_config_model_id

# Cited in the model card of a trained model.
PAPER = {
    "title": "Weighted-Reward Preference Optimization for Implicit Model Fusion",
    "id": "2412.03187",
    "citation": textwrap.dedent("""\
        @inproceedings{yang2025wrpo,
            title     = {{Weighted-Reward Preference Optimization for Implicit Model Fusion}},
            author    = {Ziyi Yang and Fanqi Wan and Longguang Zhong and
                         Tianyuan Shi and Xiaojun Quan},
            year      = 2025,
            booktitle = {International Conference on Learning Representations},
            url       = {https://arxiv.org/abs/2412.03187},
        }"""),
}


def check_arguments(
    args: Any, train_dataset: Any, processing_class: Any, compute_metrics: Any
) -> None:
    """Raise RecipeError for arguments of the constructor that cannot be honoured."""
    if not isinstance(args, WRPOConfig):
        raise RecipeError(f"args is a {type(args).__name__}; WRPOTrainer needs a WRPOConfig")
    if train_dataset is None:
        raise RecipeError("train_dataset is None; pass a Dataset or IterableDataset of triples")
    if processing_class is not None and not isinstance(processing_class, PreTrainedTokenizerBase):
        kind = type(processing_class).__name__
        raise RecipeError(f"processing_class is a {kind}; WRPOTrainer needs a tokenizer")
    if compute_metrics is not None:
        raise RecipeError(
            "compute_metrics is set, but WRPOTrainer keeps no logits; read the metrics it logs"
        )


def refuse_two_references(ref_model: PreTrainedModel | None) -> None:
    """Raise RecipeError for a reference model beside reference columns."""
    if ref_model is not None:
        raise RecipeError(
            "ref_model is given and the training set has reference columns; leave ref_model out, "
            "or drop the ref_*_logps columns to compute them again"
        )


def refuse_unused_reference(ref_model: PreTrainedModel | None, args: WRPOConfig) -> None:
    """Raise RecipeError for a reference beside an objective that has none."""
    if ref_model is not None or args.precompute_ref_log_probs:
        raise RecipeError(
            "reference_free is set beside a reference; leave out ref_model and "
            "precompute_ref_log_probs, or reference_free"
        )


def refuse_layout_beside_collator(args: WRPOConfig) -> None:
    """Raise RecipeError for the prefix layout beside a collator of the caller's own."""
    if args.triple_layout == "prefix":
        raise RecipeError(
            "triple_layout is prefix, but a data_collator was passed, which decides the layout; "
            "leave one of them out"
        )


def refuse_wrapped_head(model: Any) -> None:
    """Raise RecipeError for an adapter around the head, whose weight alone log-probs read.

    model: the language model, below adapters.
    """
    head = model.get_output_embeddings()
    if not hasattr(head, "bias"):
        raise RecipeError(
            f"the model's head is a {type(head).__name__}, and log-probs are computed from the "
            "plain weights below it; train other modules, or a model whose head and embedding are "
            "not tied"
        )


def column_names(dataset: Any) -> list[str]:
    """Columns of a data set; of a streamed one without a schema, those of its first row."""
    return dataset.column_names or list(next(iter(dataset)))


def model_name(model: Any) -> str:
    """Last part of the path or id of a model, for naming the output."""
    return _path(model).split("/")[-1] or type(model).__name__


def tokenizer_of(model: Any, args: WRPOConfig) -> PreTrainedTokenizerBase:
    """Load the tokenizer that belongs to a model or to a model path."""
    from wrpo.chat.tokenizer import load_tokenizer

    revision = (args.model_init_kwargs or {}).get("revision") if isinstance(model, str) else None
    return load_tokenizer(_path(model), revision=revision, trust_remote_code=args.trust_remote_code)


def frozen_copy(model: Any) -> PreTrainedModel | None:
    """Copy of a policy in memory, or None where the parent has to load the reference itself.

    The parent reloads `model.config._name_or_path`, which is another model if the weights changed
    since they were loaded.
    """
    if not isinstance(model, PreTrainedModel):
        return None
    split = hasattr(model, "hf_device_map") or getattr(model, "is_quantized", False)
    if split or is_fsdp_enabled() or is_deepspeed_zero3_enabled():
        return None
    return copy.deepcopy(model).eval().requires_grad_(False)


def _path(model: Any) -> str:
    return model if isinstance(model, str) else get_config_model_id(model.config)

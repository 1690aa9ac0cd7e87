"""Saves a trained model as one ordinary model folder, however its weights are distributed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wrpo.errors import ModelError, RecipeError
from wrpo.training.same_model import (
    is_exact,
    require_same,
    sample_ids,
    token_logprobs,
    trained_logprobs,
)

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import BitsAndBytesConfig, Trainer

_PEFT_PREFIX = "base_model.model."


def save_model(trainer: Trainer, path: Path, *, load_base: Callable[[], Any] | None = None) -> None:
    """Writes weights, with adapters merged into them, and tokenizer; every process must call it.

    Afterwards a model with adapters cannot train on.

    load_base: loads in full precision what is quantised in training; needed if it is.

    Raises:
        ModelError: what is written gives other log-probs than the trained model.
    """
    policy: Any = trainer.accelerator.unwrap_model(trainer.model)
    trained, exact = None, True
    if load_base is not None and getattr(policy, "is_quantized", False):
        if trainer.is_world_process_zero():
            trained = save_merged_into(load_base(), trainer, path)
    else:
        trained, exact = trained_logprobs(trainer), is_exact(trainer)
        if hasattr(policy, "merge_and_unload"):
            _save_merged(trainer, path)
        else:
            trainer.save_model(str(path))
    if trainer.is_world_process_zero():
        tokenizer: Any = trainer.processing_class
        tokenizer.save_pretrained(path)
    require_same(trainer, path, trained, exact=exact)


def _save_merged(trainer: Trainer, path: Path) -> None:
    # Not merge_and_unload, which needs the whole model on the process that calls it.
    from peft.tuners.tuners_utils import BaseTunerLayer

    policy: Any = trainer.accelerator.unwrap_model(trainer.model)
    _untie(policy)
    try:
        for layer in policy.modules():
            if isinstance(layer, BaseTunerLayer):
                with _whole(layer):
                    layer.merge()
    except (RuntimeError, ValueError, NotImplementedError) as error:
        raise ModelError(
            f"the adapters cannot be merged into the weights: {error}. The checkpoints in "
            f"{trainer.args.output_dir} are kept; train adapters that PEFT can merge"
        ) from error
    base = policy.unload()
    _say_whether_tied(base)
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if trainer.is_world_process_zero():
        weights = {name.removeprefix(_PEFT_PREFIX): value for name, value in state.items()}
        base.save_pretrained(path, state_dict=weights)


def _untie(policy: Any) -> None:
    """Gives the head weights of its own where only it, or only the embedding, has an adapter.

    Merged into a shared matrix, the adapter of one would change the other too.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer
    from torch.nn import Parameter

    model = policy.get_base_model()
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    adapted = [isinstance(layer, BaseTunerLayer) for layer in (head, embedding)]
    if not any(adapted):
        return
    own = head.get_base_layer() if adapted[0] else head
    other = embedding.get_base_layer() if adapted[1] else embedding
    if own.weight is other.weight:
        own.weight = Parameter(own.weight.detach().clone(), requires_grad=False)


def _say_whether_tied(model: Any) -> None:
    """Without it, a head that was trained by itself would be the embedding again when loaded."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head is not None and head.weight is not embedding.weight:
        model.config.tie_word_embeddings = False


@contextmanager
def _whole(layer: Any) -> Iterator[None]:
    """Undoes the partitioning of one layer under ZeRO-3; FSDP2's parameters merge as they are."""
    parameters = list(layer.parameters())
    if not any(hasattr(parameter, "ds_id") for parameter in parameters):
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(parameters, modifier_rank=0):
        yield


def quantization_config(kind: str | None) -> BitsAndBytesConfig | None:
    """transformers' config of "nf4" or "int8" weights; None for None.

    Raises:
        ModelError: bitsandbytes is not installed.
        RecipeError: the weights are to be sharded.
    """
    if kind is None:
        return None
    import torch
    from transformers import BitsAndBytesConfig
    from transformers.modeling_utils import is_deepspeed_zero3_enabled, is_fsdp_enabled

    if find_spec("bitsandbytes") is None:
        raise ModelError(
            f"lora.quantize is {kind}, but bitsandbytes is not installed; pip install "
            "wrpo[qlora], or leave lora.quantize out"
        )
    if is_deepspeed_zero3_enabled() or is_fsdp_enabled():
        raise RecipeError(
            f"lora.quantize is {kind}, which needs whole weights on every device; choose an "
            "accelerate config with DDP or ZeRO-2, or leave lora.quantize out"
        )
    if kind == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=kind,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def save_merged_into(base: Any, trainer: Trainer, path: Path) -> Tensor:
    """Writes `base`, the same model in full precision, with the trained adapters merged into it.

    Merged into the quantised weights, the adapters would be rounded to their few levels.

    Returns:
        `token_logprobs` of `base` with the adapters beside it.
    """
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    policy: Any = trainer.accelerator.unwrap_model(trainer.model)
    whole = get_peft_model(base, policy.peft_config["default"])
    set_peft_model_state_dict(whole, get_peft_model_state_dict(policy))
    whole.eval()
    trained = token_logprobs(whole, sample_ids(trainer))
    whole.merge_and_unload().save_pretrained(path)
    return trained

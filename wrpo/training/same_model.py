"""Is the saved model the trained one? Both give the same log-probs on a few rows, or an error.

Merged adapters, tied embeddings and resized vocabularies are saved and loaded by four libraries;
what one of them loses shows in no message, only in what the model says. The comparison reads the
saved weights once and forwards `ROWS` rows of at most `TOKENS` tokens on the CPU of rank 0.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wrpo.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import Trainer

logger = logging.getLogger(__name__)

ROWS, TOKENS = 4, 64
EXACT, ROUNDED = 1e-3, 5e-2
"""Largest mean difference of a token's log-prob, in nats: of float32 weights, and of shorter ones
or where the trained model computes in a shorter type."""


def sample_ids(trainer: Trainer) -> list[list[int]]:
    """The beginnings of a few training rows, as token ids; a row without tokens is left out."""
    dataset: Any = trainer.train_dataset
    rows = [row for row, _ in zip(dataset, range(ROWS), strict=False)]
    beginnings = [_ids(row)[:TOKENS] for row in rows]
    return [ids for ids in beginnings if len(ids) > 1]


def _ids(row: dict[str, Any]) -> list[int]:
    if "input_ids" in row:
        return list(row["input_ids"])
    response = next(name for name in row if name.endswith("_ids") and name != "prompt_ids")
    return [*row["prompt_ids"], *row[response]]


def token_logprobs(model: Any, rows: Sequence[list[int]]) -> Tensor:
    """Log-probs of all tokens but the first of each row, one after another, in float32 on the CPU.

    Runs on the device of the model's weights, with its plain attention.
    """
    import torch

    device = next(model.parameters()).device
    found = []
    with torch.no_grad():
        for row in rows:
            ids = torch.tensor([row], device=device)
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
            logps = logits[0, :-1].float().log_softmax(-1)
            found.append(logps.gather(1, ids[0, 1:, None])[:, 0].cpu())
    return torch.cat(found)


def trained_logprobs(trainer: Trainer) -> Tensor:
    """`token_logprobs` of the trained model as it stands; every process must call it."""
    with _plain(trainer) as model:
        return token_logprobs(model, sample_ids(trainer))


@contextmanager
def _plain(trainer: Trainer) -> Iterator[Any]:
    """The trained model in evaluation mode, with eager attention and in the type of its weights.

    Where it is sharded, with what gathers it, and in the type that this computes in.
    """
    policy: Any = trainer.accelerator.unwrap_model(trainer.model)
    attention, training = policy.config._attn_implementation, policy.training
    forward = policy.__dict__.get("forward")
    policy.config._attn_implementation = "eager"
    policy.eval()
    if not _is_sharded(trainer) and "_original_forward" in policy.__dict__:
        policy.forward = policy._original_forward  # without accelerate's autocast
    try:
        yield trainer.model_wrapped if _is_sharded(trainer) else policy
    finally:
        policy.config._attn_implementation = attention
        policy.train(training)
        if forward is not None:
            policy.forward = forward


def _is_sharded(trainer: Trainer) -> bool:
    return bool(trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled)


def is_exact(trainer: Trainer) -> bool:
    """Whether `trained_logprobs` computes in float32."""
    args: Any = trainer.args
    return not (args.tf32 or (_is_sharded(trainer) and (args.bf16 or args.fp16)))


def require_same(trainer: Trainer, path: Path, trained: Tensor | None, *, exact: bool) -> None:
    """Checks the model in a folder against log-probs of the trained one; every process calls it.

    trained: those of `trained_logprobs`; rank 0 needs them.
    exact: whether they were computed in float32.

    Raises:
        ModelError: they differ, or the folder cannot be loaded.
    """
    from accelerate.utils import broadcast_object_list

    problem: list[str | None] = [None]
    if trainer.is_world_process_zero() and trained is not None:
        problem[0] = _difference(trainer, path, trained, exact=exact)
    broadcast_object_list(problem, from_process=0)
    if problem[0] is not None:
        raise ModelError(
            f"the model saved in {path} is not the trained one: {problem[0]}. Do not use it. The "
            f"checkpoints in {trainer.args.output_dir} are kept; train without what the model "
            "class cannot save (an adapter of another kind, a vocabulary of another size), or "
            "report it"
        )


def _difference(trainer: Trainer, path: Path, trained: Tensor, *, exact: bool) -> str | None:
    import torch

    from wrpo.training.trl_seam import whole_weights

    try:
        with whole_weights():
            saved = (
                _class_of(trainer)
                .from_pretrained(path, dtype="auto", attn_implementation="eager")
                .eval()
            )
            found = token_logprobs(saved, sample_ids(trainer))
    except (OSError, ValueError, RuntimeError, IndexError) as error:
        return f"it cannot be loaded and run ({type(error).__name__}: {error})"
    if not torch.isfinite(trained).all():
        return "the trained one gives log-probs that are not finite numbers"
    exact = exact and saved.dtype.itemsize >= torch.float32.itemsize
    tolerance = EXACT if exact else ROUNDED
    difference = (found - trained).abs().mean().item()
    logger.info("saved model: log-probs differ by %.1e nats per token", difference)
    if difference <= tolerance:
        return None
    return (
        f"its log-probs differ by {difference:.3g} nats per token, {tolerance:g} is the most that "
        f"rounding in {str(saved.dtype).removeprefix('torch.')} explains"
    )


def _class_of(trainer: Trainer) -> Any:
    """The class of the language model, below adapters and what FSDP makes of it."""
    policy: Any = trainer.accelerator.unwrap_model(trainer.model)
    model = policy.get_base_model() if hasattr(policy, "get_base_model") else policy
    return next(kind for kind in type(model).__mro__ if not kind.__name__.startswith("FSDP"))

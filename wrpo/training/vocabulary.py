"""Tokens that a tokenizer knows and the model has no embedding for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wrpo.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Trainer

REMEDY = (
    "resize the model (resize_token_embeddings) and save it, or give it the tokenizer it was "
    "trained with"
)


def overflow(tokenizer: PreTrainedTokenizerBase, config: Any) -> str | None:
    """Says that a tokenizer has more ids than a model of this config has embeddings, or None."""
    ids = max(tokenizer.get_vocab().values(), default=-1) + 1
    embeddings = config.get_text_config().vocab_size
    return f"tokenizer {ids} ids, embeddings {embeddings}" if ids > embeddings else None


def require_embeddings(trainer: Trainer) -> None:
    """Checks the tokens of the training rows and of padding before the first step.

    Tokens without embedding that no row holds do no harm: some published models have such.

    Raises:
        ModelError: a token has no embedding.
    """
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    tokenizer: Any = trainer.processing_class
    problem = overflow(tokenizer, model.config)
    if problem is None:
        return
    embeddings = model.config.get_text_config().vocab_size
    for place, token in _largest(trainer.train_dataset, tokenizer).items():
        if token >= embeddings:
            raise ModelError(
                f"{model.config.name_or_path}: {problem}; {place} has token {token}, "
                f"{tokenizer.convert_ids_to_tokens(token)!r}. To train it, {REMEDY}"
            )


def _largest(dataset: Any, tokenizer: Any) -> dict[str, int]:
    """The largest token of each column of token ids, and of padding."""
    found = {"padding": tokenizer.pad_token_id or 0}
    for name in dataset.column_names:
        if name.endswith("_ids"):
            found[f"column {name}"] = max(max(ids, default=0) for ids in dataset[name])
    return found

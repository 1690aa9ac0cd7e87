"""Sequence-classification reward models with one label, through transformers."""

from __future__ import annotations

import logging
from typing import Any

from data_construction.rewards.base import Candidate, Refusal
from wrpo.batching import batches_by_length
from wrpo.errors import ModelError, TemplateError
from wrpo.recipe.schema import ClassifierReward

logger = logging.getLogger(__name__)

_CHECKED_ROWS = 16
_TOLERANCE = {"float32": 1e-3}
_HALF_TOLERANCE = 0.15


class Classifier:
    """Raw logit of the single label for the rendered conversation.

    Rows are sorted by length, padded on the right and masked. The first call compares batch 1 with
    batch B and stops when they disagree, which is how a wrong pad token or padding side shows
    (allenai/reward-bench#137).

    Raises:
        ModelError: the model cannot be loaded, has several labels, or depends on its batch.
    """

    def __init__(self, settings: ClassifierReward) -> None:
        from wrpo.chat import load_tokenizer

        self._settings = settings
        self._tokenizer = load_tokenizer(
            settings.model,
            revision=settings.revision,
            chat_template=str(settings.chat_template) if settings.chat_template else None,
            trust_remote_code=settings.trust_remote_code,
        )
        self._model = self._load()
        self._checked = False

    def score(self, candidates: list[Candidate]) -> list[float | Refusal]:
        """One logit per candidate; over-long and unrenderable candidates are refused."""
        rendered = [self._render(candidate) for candidate in candidates]
        places = [place for place, ids in enumerate(rendered) if isinstance(ids, list)]
        rows = [ids for ids in rendered if isinstance(ids, list)]
        if not self._checked and rows:
            self._check_batching(rows[:_CHECKED_ROWS])
        scores: list[float | Refusal] = [
            item if isinstance(item, Refusal) else 0.0 for item in rendered
        ]
        for place, value in zip(places, self._logits(rows), strict=True):
            scores[place] = value
        return scores

    def _load(self) -> Any:
        import torch
        from transformers import AutoModelForSequenceClassification

        settings = self._settings
        try:
            model = AutoModelForSequenceClassification.from_pretrained(
                settings.model,
                revision=settings.revision,
                dtype=settings.dtype,
                trust_remote_code=settings.trust_remote_code,
                use_safetensors=True,
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(f"cannot load reward model {settings.model}: {error}") from error
        if model.config.num_labels != 1:
            raise ModelError(
                f"reward model {settings.model} has {model.config.num_labels} labels, not one"
            )
        # Classification heads find the last token through the config's pad id.
        model.config.get_text_config().pad_token_id = self._tokenizer.pad_token_id
        return model.eval().to("cuda" if torch.cuda.is_available() else "cpu")

    def _render(self, candidate: Candidate) -> list[int] | Refusal:
        from wrpo.chat import render_answer

        try:
            prompt, answer = render_answer(
                self._tokenizer,
                candidate.messages,
                candidate.answer,
                fold_system=self._settings.fold_system,
            )
        except TemplateError as error:
            return Refusal("template", str(error))
        length = len(prompt) + len(answer)
        if length > self._settings.max_tokens:
            return Refusal("too_long", f"{length} tokens, the limit is {self._settings.max_tokens}")
        return prompt + answer

    def _logits(self, rows: list[list[int]]) -> list[float]:
        """Logits in the order of `rows`, computed in batches of similar length."""
        lengths = [len(row) for row in rows]
        logits = [0.0] * len(rows)
        for batch in batches_by_length(lengths, self._settings.engine.batch_tokens):
            values = self._forward([rows[place] for place in batch])
            for place, value in zip(batch, values, strict=True):
                logits[place] = value
        return logits

    def _forward(self, rows: list[list[int]]) -> list[float]:
        import torch

        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self._tokenizer.pad_token_id)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = torch.tensor(row)
            mask[place, : len(row)] = 1
        with torch.inference_mode():
            device = self._model.device
            out = self._model(input_ids=ids.to(device), attention_mask=mask.to(device))
        values: list[float] = out.logits[:, 0].float().cpu().tolist()
        return values

    def _check_batching(self, rows: list[list[int]]) -> None:
        """Compares each row alone with the same rows in one padded batch."""
        alone = [self._forward([row])[0] for row in rows]
        together = self._forward(rows)
        worst = max(abs(a - b) for a, b in zip(alone, together, strict=True))
        dtype = str(self._model.dtype).removeprefix("torch.")
        scale = max(1.0, *(abs(value) for value in alone))
        if not worst <= _TOLERANCE.get(dtype, _HALF_TOLERANCE) * scale:
            raise ModelError(
                f"reward model {self._settings.model}: scores change by {worst:.4f} between batch "
                f"1 and batch {len(rows)}; its pad token ({self._tokenizer.pad_token!r}) or "
                "attention mask handling is broken"
            )
        logger.info("reward %s: batch 1 = batch B within %.1e", self._settings.model, worst)
        self._checked = True

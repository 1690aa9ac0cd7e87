"""Which records fit a dialogue, and which of their attributes: two heads on BERT encoders."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from wrpo.retrieval.exchanges import DialogueExchange, text_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_MOST_TOKENS = 512


class EntitySelector(nn.Module):
    """Scores a record by the dot product of the first tokens of two encoders.

    Args:
        contexts: encodes what was said.
        records: encodes a record; unset: begins as a copy of the other.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        contexts: PreTrainedModel,
        records: PreTrainedModel | None = None,
    ) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.contexts = contexts
        self.records = copy.deepcopy(contexts) if records is None else records
        self._known: dict[str, Tensor] = {}

    def forward(self, contexts: Sequence[str], records: Sequence[Sequence[str]]) -> Tensor:
        """s of k records for each of n contexts, (n, k), with gradients."""
        asked = self._vectors(self.contexts, contexts)
        flat = [text for own in records for text in own]
        found = self._vectors(self.records, flat).view(len(contexts), -1, asked.shape[-1])
        return torch.einsum("nd,nkd->nk", asked, found)

    def refresh(self) -> None:
        """Forgets the vectors of records, which `ranked` keeps between steps of training."""
        self._known.clear()

    @torch.no_grad()
    def ranked(self, exchanges: Sequence[DialogueExchange], *, batch: int = 64) -> list[list[int]]:
        """Places of the records of each exchange, the best first; ties go to the first place."""
        training = self.training
        self.eval()
        texts = [[text_of(record) for record in one.records] for one in exchanges]
        new = [t for t in dict.fromkeys(t for own in texts for t in own) if t not in self._known]
        for start in range(0, len(new), batch):
            part = new[start : start + batch]
            self._known.update(zip(part, self._vectors(self.records, part), strict=True))
        asked = self._vectors(self.contexts, [one.context for one in exchanges])
        self.train(training)
        return [
            (torch.stack([self._known[text] for text in own]) @ vector)
            .argsort(descending=True, stable=True)
            .tolist()
            for own, vector in zip(texts, asked, strict=True)
        ]

    def _vectors(self, encoder: PreTrainedModel, texts: Sequence[str]) -> Tensor:
        return encoder(**_encoded(self.tokenizer, encoder, texts)).last_hidden_state[:, 0]


class AttributeSelector(nn.Module):
    """Says of each attribute whether a dialogue needs it, from the mean of a record's tokens."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, encoder: PreTrainedModel, attributes: int
    ) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.encoder = encoder
        width = encoder.config.hidden_size
        self.head = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, attributes))

    def forward(self, contexts: Sequence[str], records: Sequence[Sequence[str]]) -> Tensor:
        """Logits of k records for each of n contexts, (n, k, attributes)."""
        asked = [c for c, own in zip(contexts, records, strict=True) for _ in own]
        flat = [text for own in records for text in own]
        rows = _encoded(self.tokenizer, self.encoder, asked, flat)
        second = torch.tensor(
            [[part == 1 for part in rows_of] for rows_of in rows.pop("parts")],
            device=self.encoder.device,
        )
        states = self.encoder(**rows).last_hidden_state
        mean = (states * second[..., None]).sum(1) / second.sum(1, keepdim=True).clamp(min=1)
        return self.head(mean).view(len(contexts), -1, self.head[-1].out_features)


def _encoded(
    tokenizer: PreTrainedTokenizerBase,
    encoder: PreTrainedModel,
    texts: Sequence[str],
    seconds: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Inputs of an encoder; with pairs also `parts`, of which text each token is.

    The end of what was said counts: long contexts lose their beginning.
    """
    most = min(_MOST_TOKENS, encoder.config.max_position_embeddings)
    tokenizer.truncation_side = "left"
    rows = tokenizer(
        list(texts),
        list(seconds) if seconds is not None else None,
        padding=True,
        truncation=True,
        max_length=most,
        return_tensors="pt",
    )
    inputs = {"input_ids": rows["input_ids"], "attention_mask": rows["attention_mask"]}
    found: dict[str, Any] = {name: ids.to(encoder.device) for name, ids in inputs.items()}
    if seconds is not None:
        found["parts"] = [rows.sequence_ids(i) for i in range(len(texts))]
    return found

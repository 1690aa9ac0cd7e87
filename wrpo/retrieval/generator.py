"""A generator that reads several records at once: T5 as fusion-in-decoder.

Each record is encoded with the context by itself; the decoder attends to all of them together
(arXiv 2007.01282). Nothing tells it their order, so that permuted records give the same response.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from wrpo.retrieval.exchanges import places

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

IGNORED = -100


class Passages(NamedTuple):
    """k passages of each of n contexts, encoded.

    Attributes:
        states: (n, k, s, d).
        mask: tokens that are no padding, (n, k, s).
        of_record: tokens of the record, and not of the context, (n, k, s).
    """

    states: Tensor
    mask: Tensor
    of_record: Tensor

    def each(self) -> Passages:
        """Every passage by itself: n * k contexts with one passage."""
        return Passages(*(part.flatten(0, 1)[:, None] for part in self))

    def first(self, count: int) -> Passages:
        """Without the passages after the first ones."""
        return Passages(*(part[:, :count] for part in self))


@dataclass(frozen=True)
class Generator:
    """A T5 with its tokenizer.

    Attributes:
        context_tokens, record_tokens, response_tokens: the longest that are read or written. Of a
            context the end is kept.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    context_tokens: int = 200
    record_tokens: int = 100
    response_tokens: int = 64

    def read(self, contexts: Sequence[str], records: Sequence[Sequence[str]]) -> Passages:
        """Encodes each record with its context; an empty record is none."""
        counts = [len(own) for own in records]
        said = [ids[-self.context_tokens :] for ids in self._ids(contexts)]
        asked = [ids for ids, count in zip(said, counts, strict=True) for _ in range(count)]
        found = self._ids([text for own in records for text in own])
        end = self.tokenizer.eos_token_id
        passages = [
            ([*record[: self.record_tokens], *context, end], min(len(record), self.record_tokens))
            for record, context in zip(found, asked, strict=True)
        ]
        longest = max(len(ids) for ids, _ in passages)
        ids = torch.zeros(len(passages), longest, dtype=torch.long)
        mask, of_record = torch.zeros_like(ids), torch.zeros_like(ids)
        for row, (tokens, length) in enumerate(passages):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
            of_record[row, :length] = 1
        ids, mask = ids.to(self.model.device), mask.to(self.model.device)
        states = self.model.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        shape = (len(contexts), -1, longest)
        return Passages(
            states.view(*shape, states.shape[-1]),
            mask.view(shape),
            of_record.to(mask.device).view(shape),
        )

    def labels(self, responses: Sequence[str]) -> Tensor:
        """Token ids of responses with their ends, (n, t); -100 behind them."""
        rows = self._responses(responses)
        ids = torch.tensor(rows["input_ids"])
        return ids.masked_fill(torch.tensor(rows["attention_mask"]) == 0, IGNORED)

    def values(self, responses: Sequence[str], values: Sequence[Sequence[str]]) -> Tensor:
        """Which tokens of responses are part of a value, (n, t) as `labels`."""
        rows = self._responses(responses, return_offsets_mapping=True)
        return torch.tensor(
            [
                [
                    start < end and any(start < stop and begin < end for begin, stop in spans)
                    for start, end in offsets
                ]
                for offsets, spans in zip(
                    rows["offset_mapping"],
                    [places(own, text) for own, text in zip(values, responses, strict=True)],
                    strict=True,
                )
            ]
        )

    def log_probs(self, read: Passages, labels: Tensor) -> Tensor:
        """log p of each token of the responses, (n, t); 0 behind their ends."""
        labels = labels.to(read.states.device)
        logits = self.model(
            encoder_outputs=(read.states.flatten(1, 2),),
            attention_mask=read.mask.flatten(1, 2),
            labels=labels,
            use_cache=False,
        ).logits
        kept = labels != IGNORED
        found = logits.log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
        return found * kept

    @torch.no_grad()
    def respond(self, read: Passages) -> list[str]:
        """Greedy responses."""
        from transformers.modeling_outputs import BaseModelOutput

        ids = self.model.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=read.states.flatten(1, 2)),
            attention_mask=read.mask.flatten(1, 2),
            max_new_tokens=self.response_tokens,
            do_sample=False,
            num_beams=1,
        )
        return self.tokenizer.batch_decode(ids, skip_special_tokens=True)

    def _responses(self, responses: Sequence[str], **options: bool) -> Any:
        return self.tokenizer(
            list(responses),
            truncation=True,
            max_length=self.response_tokens,
            padding=True,
            **options,
        )

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        return self.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]


@contextmanager
def attention_seen(model: PreTrainedModel) -> Iterator[list[Tensor]]:
    """Collects the cross-attention of the forward passes inside, before its softmax.

    Libraries return weights after it, and fast kernels return none, so each score is worked out
    again from query and key. T5 neither scales them nor adds a position bias to them.

    Yields:
        a list that each layer appends (n, t, k * s) to, its mean over heads.
    """
    seen: list[Tensor] = []
    queries: dict[int, Tensor] = {}
    handles = []

    def keep(layer: int, heads: int) -> Any:
        def hook(module: Any, inputs: Any, output: Tensor) -> None:
            queries[layer] = output.detach().unflatten(-1, (heads, -1))

        return hook

    def compare(layer: int, heads: int) -> Any:
        def hook(module: Any, inputs: Any, output: Tensor) -> None:
            keys = output.detach().unflatten(-1, (heads, -1))
            seen.append(torch.einsum("nthd,nshd->nts", queries.pop(layer), keys) / heads)

        return hook

    for number, block in enumerate(model.decoder.block):
        attention = block.layer[1].EncDecAttention
        handles += [
            attention.q.register_forward_hook(keep(number, attention.n_heads)),
            attention.k.register_forward_hook(compare(number, attention.n_heads)),
        ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def importance(seen: Sequence[Tensor], read: Passages, value_tokens: Tensor) -> Tensor:
    """Mean attention score of each record, (n, k); NaN for responses without values.

    The mean is over layers, heads, the positions that write values, and the tokens of the record.

    Args:
        seen: of `attention_seen`, one forward pass.
        value_tokens: (n, t).
    """
    scores = torch.stack(list(seen)).mean(0).unflatten(-1, read.mask.shape[1:])
    queries = value_tokens.to(scores.device, scores.dtype)
    tokens = read.of_record.to(scores.dtype)
    total = torch.einsum("ntks,nt,nks->nk", scores, queries, tokens)
    return total / (queries.sum(1)[:, None] * tokens.sum(2).clamp(min=1))

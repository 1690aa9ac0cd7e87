"""Ways to a teacher's distributions over the tokens of responses: transformers, or vLLM."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from wrpo.pipeline.tables import Row
from wrpo.recipe import Model

if TYPE_CHECKING:
    from torch import Tensor

    from wrpo.engines.vllm import VLLMArguments


_LEAST_MASS = 1e-7
"""Least mass of a remainder by vLLM."""


class RenderedResponse(NamedTuple):
    """A response under the teacher's tokenizer, behind its prompt."""

    key: str
    prompt: list[int]
    response: list[int]


class DistributionMaker(Protocol):
    """Makes rows of `wrpo.pipeline.tables.TEACHER_LOGITS`."""

    def __call__(self, responses: Sequence[RenderedResponse]) -> list[Row]:
        """One row per response, in their order."""


class ByTransformers:
    """The model in float32 on one device, `batch_responses` padded rows together.

    Args:
        stored: rows by response_id, whose tokens are looked up instead of the likeliest ones.

    Raises:
        ModelError: the model cannot be loaded.
    """

    def __init__(
        self,
        path: str,
        entry: Model,
        *,
        top_k: int,
        batch_responses: int,
        stored: Mapping[str, Mapping[str, Any]] | None,
    ) -> None:
        import torch

        from wrpo.training.common import load_policy

        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = load_policy(path, entry).eval().to(device)
        self._top_k, self._size, self._stored = top_k, batch_responses, stored

    def __call__(self, responses: Sequence[RenderedResponse]) -> list[Row]:
        made: list[Row] = []
        for at in range(0, len(responses), self._size):
            made += self._batch(responses[at : at + self._size])
        return made

    def _batch(self, batch: Sequence[RenderedResponse]) -> list[Row]:
        import torch

        longest = max(len(one.prompt) + len(one.response) for one in batch)
        ids = torch.zeros(len(batch), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for place, one in enumerate(batch):
            whole = [*one.prompt, *one.response]
            ids[place, : len(whole)] = torch.tensor(whole)
            mask[place, : len(whole)] = 1
        device = self._model.device
        with torch.no_grad():
            logits = self._model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits
        return [
            self._row(one, logits[place, len(one.prompt) - 1 :][: len(one.response)])
            for place, one in enumerate(batch)
        ]

    def _row(self, one: RenderedResponse, logits: Tensor) -> Row:
        """From the logits that predict the tokens of the response, (tokens, vocabulary)."""
        import torch

        from wrpo.distillation.table import chosen_ids, remainder

        logps = logits.float().log_softmax(-1)
        own = torch.tensor(one.response, device=logps.device)
        ids = chosen_ids(logps, one, self._stored, top_k=self._top_k)
        return _row(
            one,
            ids=ids.tolist(),
            logps=logps.gather(-1, ids).tolist(),
            rest=remainder(logps, ids).tolist(),
            mean_nll=-float(logps.gather(-1, own[:, None]).mean()),
        )


class ByVLLM:
    """vLLM's prompt log-probs, in the recipe's `dtype`; arguments as `wrpo.engines.vllm.load_llm`.

    It gives the likeliest tokens only. The remainder is what their sum leaves of 1, at least
    _LEAST_MASS, as log-probs in float32 know no less.
    """

    def __init__(
        self, path: str, entry: Model, *, engine: VLLMArguments, longest: int, top_k: int
    ) -> None:
        from wrpo.engines.vllm import VLLMLogProbs

        self._top_k = top_k
        self._engine = VLLMLogProbs(
            path, entry=entry, engine=engine, max_model_len=longest, most=top_k
        )

    def __call__(self, responses: Sequence[RenderedResponse]) -> list[Row]:
        found = self._engine.likeliest([(one.prompt, one.response) for one in responses])
        return [self._row(one, told) for one, told in zip(responses, found, strict=True)]

    def _row(self, one: RenderedResponse, told: Sequence[Mapping[int, float]]) -> Row:
        """From what each token of the response could have been, by id, its own among them."""
        ranked = [sorted(each.items(), key=lambda entry: -entry[1])[: self._top_k] for each in told]
        own = [each[token] for each, token in zip(told, one.response, strict=True)]
        return _row(
            one,
            ids=[[token for token, _ in each] for each in ranked],
            logps=[[logp for _, logp in each] for each in ranked],
            rest=[
                math.log(max(1 - math.fsum(math.exp(logp) for _, logp in each), _LEAST_MASS))
                for each in ranked
            ],
            mean_nll=-math.fsum(own) / len(own),
        )


def _row(one: RenderedResponse, **values: Any) -> Row:
    return {
        "response_id": one.key,
        "token_ids": one.response,
        "top_ids": values["ids"],
        "top_logps": values["logps"],
        "rest": values["rest"],
        "mean_nll": values["mean_nll"],
        "forwarded": len(one.prompt) + len(one.response),
    }

"""Log-probs of given answers by vLLM's prompt log-probs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from data_construction.engines.vllm_offline import load_llm
from wrpo.recipe.sampling_sections import Engine, Model


class VLLMLogProbs:
    """An offline vLLM engine that scores answers of one model; arguments as `VLLMEngine`."""

    def __init__(self, model: str, *, entry: Model, engine: Engine, max_model_len: int) -> None:
        # One token is generated after each answer, because a request has to generate something.
        self._llm = load_llm(model, entry=entry, engine=engine, max_model_len=max_model_len + 1)

    def __call__(self, sequences: Sequence[tuple[list[int], list[int]]]) -> list[float]:
        """Summed log-prob in nats of each answer, from (prompt ids, answer ids)."""
        from vllm import SamplingParams
        from vllm.inputs import TokensPrompt

        outputs = self._llm.generate(
            [TokensPrompt(prompt_token_ids=prompt + answer) for prompt, answer in sequences],
            SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0),
            use_tqdm=False,
        )
        return [
            _answer_sum(output.prompt_logprobs, prompt + answer, start=len(prompt))
            for output, (prompt, answer) in zip(outputs, sequences, strict=True)
        ]


def _answer_sum(prompt_logprobs: Any, token_ids: list[int], *, start: int) -> float:
    places = range(start, len(token_ids))
    return float(sum(prompt_logprobs[place][token_ids[place]].logprob for place in places))

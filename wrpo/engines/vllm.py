"""vLLM inside this process: requests are fed while others run, so that no chunk waits for its
longest answer."""

from __future__ import annotations

import copy
import gc
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

from wrpo.engines.adapter import adapter_folder, lora_rank
from wrpo.engines.base import Completion, Request
from wrpo.engines.vllm_env import on_cpu, prepare_environment
from wrpo.errors import ModelError
from wrpo.recipe.sampling import Engine, Model, VLLMSettings

if TYPE_CHECKING:
    from vllm import LLM, RequestOutput
    from vllm.lora.request import LoRARequest
    from vllm.sampling_params import SamplingParams

logger = logging.getLogger(__name__)

_QUEUE_FACTOR = 4
_CPU_BATCHED_TOKENS = 8192


class VLLMEngine:
    """An offline vLLM engine for one model.

    Args:
        model: path or hub id of the weights.
        entry: the recipe's entry of that model (revision, dtype, quantisation).
        engine: speed settings.
        sampling: resolved sampling fields; with those of a request, the only sampling parameters.
        stop_token_ids: ids that end an answer.
        max_model_len: prompt plus answer, in tokens.

    Raises:
        ModelError: vLLM cannot load the model.
    """

    def __init__(
        self,
        model: str,
        *,
        entry: Model,
        engine: Engine,
        sampling: dict[str, Any],
        stop_token_ids: list[int],
        max_model_len: int,
    ) -> None:
        self._sampling = sampling
        self._stop_token_ids = stop_token_ids
        self._window = engine.max_num_seqs * _QUEUE_FACTOR
        self.llm = load_llm(model, entry=entry, engine=engine, max_model_len=max_model_len)
        self._engine = self.llm.llm_engine
        self._adapter = lora_request(entry)
        # By the identity of the fields, which are kept so that it stays theirs.
        self._parameters_of: dict[int, tuple[dict[str, Any], SamplingParams]] = {}
        # A million objects that stay: without this, each full collection looks at them all again.
        gc.collect()
        gc.freeze()

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Yields every completion as it finishes."""
        waiting = iter(requests)
        running: dict[str, Request] = {}
        counter = 0
        exhausted = False
        while running or not exhausted:
            while not exhausted and len(running) < self._window:
                request = next(waiting, None)
                if request is None:
                    exhausted = True
                    break
                name, counter = str(counter), counter + 1
                running[name] = request
                self._add(name, request)
            for output in self._engine.step() if running else []:
                if output.finished:
                    yield _completion(running.pop(output.request_id), output)

    def close(self) -> None:
        """Ends the processes of the engine, which may outlive this one on GPUs."""
        self._engine.engine_core.shutdown()

    def _add(self, name: str, request: Request) -> None:
        from vllm.inputs import TokensPrompt

        self._engine.add_request(
            name,
            TokensPrompt(prompt_token_ids=request.prompt_ids),
            self._parameters(request),
            lora_request=self._adapter,
        )

    def _parameters(self, request: Request) -> SamplingParams:
        fields = request.sampling or self._sampling
        if id(fields) not in self._parameters_of:
            self._parameters_of[id(fields)] = fields, self._made_once(fields)
        parameters = self._parameters_of[id(fields)][1]
        if fields["temperature"] > 0:
            parameters = copy.copy(parameters)
            parameters.seed = request.seed
        return parameters

    def _made_once(self, s: dict[str, Any]) -> SamplingParams:
        """vLLM's form of some sampling fields; checking them for every answer would take longer
        than all else the sampler does for it."""
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        return SamplingParams(
            n=1,
            temperature=s["temperature"],
            top_p=s["top_p"],
            top_k=s["top_k"],
            min_p=s["min_p"],
            repetition_penalty=s["repetition_penalty"],
            presence_penalty=s["presence_penalty"],
            frequency_penalty=s["frequency_penalty"],
            max_tokens=s["max_tokens"],
            stop_token_ids=self._stop_token_ids,
            logprobs=0 if s["keep_logprobs"] else None,
            output_kind=RequestOutputKind.FINAL_ONLY,
            skip_clone=True,  # a shallow copy is enough for vLLM
        )


def load_llm(
    model: str,
    *,
    entry: Model,
    engine: VLLMSettings,
    max_model_len: int,
    runner: Literal["generate", "pooling"] = "generate",
) -> LLM:
    """A vLLM engine for one model; see `VLLMEngine` for the arguments.

    Raises:
        ModelError: vLLM does not import, or cannot load the model.
    """
    prepare_environment(eager=engine.enforce_eager)
    try:
        from vllm import LLM
    except ImportError as error:
        raise ModelError(f"vLLM does not import ({error}); install it: make setup") from error

    stated: dict[str, Any] = {
        "model": model,
        "runner": runner,
        "revision": entry.revision,
        "dtype": entry.dtype,
        "quantization": entry.quantization,
        "trust_remote_code": entry.trust_remote_code,
        "max_model_len": max_model_len,
    }
    if entry.adapter:
        stated |= {"enable_lora": True, "max_lora_rank": _max_lora_rank(entry.adapter)}
    if on_cpu():
        # A seeded request that is prefilled in pieces rewinds its generator, which CPU generators
        # cannot do ("CPU Generator does not use offset").
        stated["enable_chunked_prefill"] = False
        stated["max_num_batched_tokens"] = max(_CPU_BATCHED_TOKENS, max_model_len)
    try:
        return LLM(**engine.arguments(**stated))
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        raise ModelError(f"vLLM cannot load {model}: {error}") from error


def lora_request(entry: Model) -> LoRARequest | None:
    """What each request names to be answered with the adapter, if there is one.

    Raises:
        ModelError: the adapter is not there, or is none.
    """
    if entry.adapter is None:
        return None
    from vllm.lora.request import LoRARequest

    return LoRARequest("adapter", 1, str(adapter_folder(entry.adapter)))


def _max_lora_rank(adapter: str) -> int:
    """The smallest rank that vLLM can be started with and the adapter fits into."""
    from vllm.config.lora import MaxLoRARanks

    ranks = sorted(get_args(MaxLoRARanks))
    rank = lora_rank(adapter_folder(adapter))
    fitting = [known for known in ranks if known >= rank]
    if not fitting:
        raise ModelError(f"adapter {adapter} has rank {rank}; vLLM takes up to {ranks[-1]}")
    return int(fitting[0])


def _completion(request: Request, output: RequestOutput) -> Completion:
    answer = output.outputs[0]
    return Completion(
        row=request.row,
        text=answer.text,
        token_ids=list(answer.token_ids),
        token_count=len(answer.token_ids),
        finish_reason=answer.finish_reason or "unknown",
        logprob=answer.cumulative_logprob if answer.logprobs is not None else None,
    )


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

"""vLLM inside this process: requests are fed while others run, so that no chunk waits for its
longest response."""

from __future__ import annotations

import copy
import gc
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args

from pydantic import AfterValidator, Field

from wrpo.engines.base import Capacity, Completion, EngineSettings, GenerationTask, Request
from wrpo.engines.local.adapter import adapter_folder, lora_rank
from wrpo.engines.local.vllm_arguments import check_vllm_keys
from wrpo.engines.local.vllm_env import (
    INSTALL,
    memory_advice,
    memory_share,
    on_cpu,
    prepare_environment,
)
from wrpo.errors import ModelError, loading_failures
from wrpo.settings import Section

if TYPE_CHECKING:
    from vllm import LLM, RequestOutput
    from vllm.lora.request import LoRARequest
    from vllm.sampling_params import SamplingParams

    from wrpo.recipe.sampling import Model

logger = logging.getLogger(__name__)

_QUEUE_FACTOR = 4
_CPU_BATCHED_TOKENS = 8192


class VLLMArguments(Section):
    """How vLLM runs in this process."""

    tensor_parallel_size: int = Field(1, ge=1, description="GPUs per replica.")
    pipeline_parallel_size: int = Field(1, ge=1, description="Pipeline stages per replica.")
    gpu_memory_utilization: float = Field(
        0.9,
        gt=0.0,
        le=1.0,
        description="Share of GPU memory; on a CPU, of all memory, and at most what is free.",
    )
    max_num_seqs: int = Field(256, ge=1, description="Sequences computed together.")
    enforce_eager: bool = Field(False, description="Skip graph capture and compilation.")
    kv_cache_mib: int | None = Field(None, ge=1, description="KV cache size; unset: the engine's.")
    vllm: Annotated[dict[str, Any], AfterValidator(check_vllm_keys)] = Field(
        default_factory=dict,
        description="Further arguments of vLLM's engine, by its names, e.g. "
        "{kv_cache_dtype: fp8, cpu_offload_gb: 20}.",
    )
    prefix_caching: bool = Field(True, description="Share the KV cache of equal prompts.")

    @property
    def gpus_per_replica(self) -> int:
        """GPUs that one copy of the model occupies."""
        return self.tensor_parallel_size * self.pipeline_parallel_size

    def arguments(self, **stated: Any) -> dict[str, Any]:
        """Arguments of vLLM's engine: these settings, what the caller states, and `vllm` last."""
        cache = {}
        if self.kv_cache_mib is not None:
            cache["kv_cache_memory_bytes"] = self.kv_cache_mib * 2**20
        return {
            "tensor_parallel_size": self.tensor_parallel_size,
            "pipeline_parallel_size": self.pipeline_parallel_size,
            "gpu_memory_utilization": memory_share(self.gpu_memory_utilization),
            "max_num_seqs": self.max_num_seqs,
            "enforce_eager": self.enforce_eager,
            "enable_prefix_caching": self.prefix_caching,
            # Sampling defaults come from the recipe, never from the model's own file.
            "generation_config": "vllm",
            "disable_log_stats": True,
            **cache,
            **stated,
            **self.vllm,
        }


class VLLMSettings(EngineSettings, VLLMArguments):
    """vLLM in this process; equal responses are only promised by temperature 0."""

    extras: ClassVar[frozenset[str]] = frozenset({"vllm"})

    backend: Literal["vllm"] = Field("vllm", description="vLLM in this process.")

    @property
    def capacity(self) -> Capacity:
        """GPUs of one replica, and what it computes together."""
        return Capacity(
            self.gpus_per_replica,
            self.max_num_seqs,
            self.gpu_memory_utilization,
            self.prefix_caching,
        )

    def prepare(self) -> None:
        """vLLM and torch read the environment when they are imported."""
        prepare_environment(eager=self.enforce_eager)

    def load(self, task: GenerationTask) -> VLLMEngine:
        """An offline engine."""
        return VLLMEngine(task, self)


class VLLMEngine:
    """An offline vLLM engine for one model.

    Raises:
        ModelError: vLLM cannot load the model.
    """

    def __init__(self, task: GenerationTask, engine: VLLMSettings) -> None:
        self._sampling = task.sampling
        self._stop_token_ids = task.stop_token_ids
        self._window = engine.max_num_seqs * _QUEUE_FACTOR
        self.llm = load_llm(
            task.model, entry=task.entry, engine=engine, max_model_len=task.max_model_len
        )
        self._engine = self.llm.llm_engine
        self._adapter = lora_request(task.entry)
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
        """vLLM's form of some sampling fields; checking them for every response would take longer
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
    engine: VLLMArguments,
    max_model_len: int,
    runner: Literal["generate", "pooling"] = "generate",
    max_logprobs: int | None = None,
) -> LLM:
    """A vLLM engine for one model; see `GenerationTask` for the arguments.

    max_logprobs: most log-probs of a position that are asked for; None: vLLM's default.

    Raises:
        ModelError: vLLM does not import, or cannot load the model.
    """
    prepare_environment(eager=engine.enforce_eager)
    try:
        from vllm import LLM
    except ImportError as error:
        raise ModelError(f"vLLM does not import ({error}); {INSTALL}") from error

    stated: dict[str, Any] = {
        "model": model,
        "runner": runner,
        "revision": entry.revision,
        "dtype": entry.dtype,
        "quantization": entry.quantization,
        "trust_remote_code": entry.trust_remote_code,
        "max_model_len": max_model_len,
    }
    if max_logprobs is not None:
        stated["max_logprobs"] = max_logprobs
    if entry.adapter:
        stated |= {"enable_lora": True, "max_lora_rank": _max_lora_rank(entry.adapter)}
    if on_cpu():
        # A seeded request that is prefilled in pieces rewinds its generator, which CPU generators
        # cannot do ("CPU Generator does not use offset").
        stated["enable_chunked_prefill"] = False
        stated["max_num_batched_tokens"] = max(_CPU_BATCHED_TOKENS, max_model_len)
    try:
        return LLM(**engine.arguments(**stated))
    except loading_failures() as error:
        raise ModelError(f"vLLM cannot load {model}: {error}{memory_advice(error)}") from error


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
    response = output.outputs[0]
    return Completion(
        row=request.row,
        text=response.text,
        token_ids=list(response.token_ids),
        token_count=len(response.token_ids),
        finish_reason=response.finish_reason or "unknown",
        logprob=response.cumulative_logprob if response.logprobs is not None else None,
    )


class VLLMLogProbs:
    """An offline vLLM engine that scores responses of one model; arguments as `load_llm`.

    Args:
        most: the likeliest tokens of each position that are asked for, beside the token itself.
    """

    def __init__(
        self, model: str, *, entry: Model, engine: VLLMArguments, max_model_len: int, most: int = 0
    ) -> None:
        # One token is generated after each response, because a request has to generate something.
        self._llm = load_llm(
            model,
            entry=entry,
            engine=engine,
            max_model_len=max_model_len + 1,
            max_logprobs=most or None,
        )
        self._most = most

    def __call__(self, sequences: Sequence[tuple[list[int], list[int]]]) -> list[float]:
        """Summed log-prob in nats of each response, from (prompt ids, response ids)."""
        return [
            _response_sum(found, prompt + response, start=len(prompt))
            for found, (prompt, response) in zip(self._ask(sequences), sequences, strict=True)
        ]

    def likeliest(
        self, sequences: Sequence[tuple[list[int], list[int]]]
    ) -> list[list[dict[int, float]]]:
        """Log-probs by token for each token of each response: the `most` likeliest, and its own."""
        return [
            [{token: one.logprob for token, one in each.items()} for each in found[len(prompt) :]]
            for found, (prompt, _) in zip(self._ask(sequences), sequences, strict=True)
        ]

    def _ask(self, sequences: Sequence[tuple[list[int], list[int]]]) -> list[Any]:
        """vLLM's log-probs of each position of prompt and response."""
        from vllm import SamplingParams
        from vllm.inputs import TokensPrompt

        outputs = self._llm.generate(
            [TokensPrompt(prompt_token_ids=prompt + response) for prompt, response in sequences],
            SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=self._most),
            use_tqdm=False,
        )
        return [output.prompt_logprobs for output in outputs]


def _response_sum(prompt_logprobs: Any, token_ids: list[int], *, start: int) -> float:
    places = range(start, len(token_ids))
    return float(sum(prompt_logprobs[place][token_ids[place]].logprob for place in places))

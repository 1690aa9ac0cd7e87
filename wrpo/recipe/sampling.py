"""Models, and how answers are drawn from them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    create_model,
)

from wrpo.recipe.foreign_keys import check_vllm_keys
from wrpo.settings import Section, Share


def _optional(section: type[Section], name: str) -> Any:
    """The same fields, each of them optional: what a source or the target overrides."""
    fields: dict[str, Any] = {}
    for key, info in section.model_fields.items():
        constrained: Any = info.annotation
        for constraint in info.metadata:
            constrained = Annotated[constrained, constraint]
        fields[key] = (constrained | None, Field(default=None, description=info.description))
    return create_model(name, __base__=Section, __doc__=section.__doc__, **fields)


class Sampling(Section):
    """How answers are drawn; nothing is taken from a model's own generation_config.json."""

    responses: int = Field(5, ge=1, description="Answers per prompt.")
    temperature: float = Field(0.8, ge=0.0, description="0 is greedy.")
    top_p: float = Field(0.95, gt=0.0, le=1.0, description="Nucleus mass; 1 is off.")
    top_k: int = Field(0, ge=0, description="Candidates kept per token; 0 is off.")
    min_p: float = Field(0.0, ge=0.0, le=1.0, description="Floor relative to the best token.")
    repetition_penalty: float = Field(1.0, gt=0.0, description="1 is off.")
    presence_penalty: float = Field(0.0, description="0 is off.")
    frequency_penalty: float = Field(0.0, description="0 is off.")
    max_tokens: int = Field(4096, ge=1, description="Longest answer in tokens of the source.")
    keep_logprobs: bool = Field(False, description="Keep the log-prob sum of each answer.")


def _is_base_url(url: str) -> str:
    if not re.fullmatch(r"https?://[^\s/@?#]+(/[^\s@?#]*)?", url):
        raise ValueError(
            "must be the base URL of a server, like http://host:8000/v1, without user name, key or "
            "query; api_key_env names the variable that holds a key"
        )
    return url.rstrip("/")


def _is_variable_name(name: str) -> str:
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
        raise ValueError(
            "names the environment variable that holds the key, like OPENAI_API_KEY; a recipe "
            "never holds the key itself"
        )
    return name


BaseURL = Annotated[str, AfterValidator(_is_base_url)]
VariableName = Annotated[str, AfterValidator(_is_variable_name)]
VLLMArguments = Annotated[dict[str, Any], AfterValidator(check_vllm_keys)]


class VLLMSettings(Section):
    """How vLLM runs in this process."""

    tensor_parallel_size: int = Field(1, ge=1, description="GPUs per replica.")
    pipeline_parallel_size: int = Field(1, ge=1, description="Pipeline stages per replica.")
    gpu_memory_utilization: float = Field(0.9, gt=0.0, le=1.0, description="Share of GPU memory.")
    max_num_seqs: int = Field(256, ge=1, description="Sequences computed together.")
    enforce_eager: bool = Field(False, description="Skip graph capture and compilation.")
    kv_cache_mib: int | None = Field(None, ge=1, description="KV cache size; unset: the engine's.")
    vllm: VLLMArguments = Field(
        default_factory=dict,
        description="vllm: further arguments of its engine, by vLLM's names, e.g. "
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
            "gpu_memory_utilization": self.gpu_memory_utilization,
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


class Engine(VLLMSettings):
    """How sampling runs; no field here changes what is asked of the model.

    The one exception is `api: chat`, where the server makes the prompt with its own template.
    """

    backend: Literal["vllm", "openai", "transformers"] = Field(
        "vllm",
        description="vllm: in this process; openai: servers with that API; transformers: slow, for "
        "models that vLLM lacks. Seeds are honoured by each; equal answers are only promised by "
        "temperature 0.",
    )
    replicas: int | None = Field(
        None,
        ge=1,
        description="Copies of the model that share the work, each with GPUs of its own. On one "
        "machine, processes (unset: 1); on Ray, actors (unset: as many as fit). For openai, list "
        "endpoints instead.",
    )
    endpoints: list[BaseURL] = Field(
        default_factory=list, description="openai: base URLs of servers of one and the same model."
    )
    api: Literal["completions", "chat"] = Field(
        "completions",
        description="openai: completions sends token ids (vLLM, SGLang); chat sends messages, for "
        "hosted models whose tokenizer is not at hand.",
    )
    served_model: str | None = Field(
        None, description="openai: the model's name on the server; unset: `model`."
    )
    api_key_env: VariableName | None = Field(
        None, description="openai: environment variable that holds the API key; unset: no key."
    )
    concurrency: int = Field(64, ge=1, description="openai: requests in flight per endpoint.")
    request_timeout_s: float = Field(
        3600.0, gt=0.0, description="openai: seconds until a request is sent again."
    )
    retries: int = Field(
        8, ge=0, description="openai: failures of one request before the stage stops."
    )

    @property
    def sends_messages(self) -> bool:
        """Whether the server renders the chat, so that no tokenizer is needed here."""
        return self.backend == "openai" and self.api == "chat"

    @property
    def gpus_per_replica(self) -> int:
        """GPUs that one engine of this machine occupies; none where servers do the work."""
        return 0 if self.backend == "openai" else super().gpus_per_replica


if TYPE_CHECKING:  # type checkers see the fields; at run time each of them may be unset
    SamplingOverride = Sampling
    EngineOverride = Engine
else:
    SamplingOverride = _optional(Sampling, "SamplingOverride")
    EngineOverride = _optional(Engine, "EngineOverride")


class Model(Section):
    """A language model: a source, or the target."""

    model: str = Field(description="Hub id, or folder of a local checkpoint.")
    revision: str | None = Field(None, description="Branch, tag or commit on the hub.")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto", description="Precision of the weights while sampling."
    )
    quantization: str | None = Field(None, description="vLLM quantisation method, e.g. fp8.")
    adapter: str | None = Field(
        None,
        description="LoRA adapter on top of the weights of a source, in PEFT's format: folder or "
        "hub id.",
    )
    chat_template: Path | None = Field(None, description="Jinja file used instead of the model's.")
    fold_system: bool = Field(
        False, description="Put the system text into the first user turn (templates without one)."
    )
    trust_remote_code: bool = Field(False, description="Run Python code from the model's folder.")
    parameters_b: float | None = Field(None, gt=0, description="Size in billions, for planning.")
    active_parameters_b: float | None = Field(
        None, gt=0, description="What one token uses of it, in a mixture of experts; for planning."
    )
    sampling: SamplingOverride = Field(
        default_factory=SamplingOverride, description="What differs from `sample` for this model."
    )
    engine: EngineOverride = Field(
        default_factory=EngineOverride, description="What differs from `sample.engine`."
    )


class Source(Model):
    """A teacher."""

    domains: list[str] | None = Field(
        None, min_length=1, description="Only prompts of these domains; unset: all."
    )


class Sample(Sampling):
    """Sampling of every model; the strongest word has the source, or `target`, then the domain."""

    target: SamplingOverride = Field(
        default_factory=SamplingOverride, description="What differs for the SFT target."
    )
    domains: dict[str, SamplingOverride] = Field(
        default_factory=dict, description="What differs for the prompts of a domain."
    )
    max_prompt_tokens: int = Field(1800, ge=1, description="Longer prompts are dropped.")
    chunk_prompts: int = Field(256, ge=1, description="Prompts per part file: the unit of resume.")
    max_dropped_share: Share = Field(0.2, description="The stage stops above this share.")
    engine: Engine = Field(default_factory=Engine, description="Speed only.")

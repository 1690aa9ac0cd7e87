"""Models, and how responses are drawn from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, create_model, field_validator
from pydantic.fields import FieldInfo

from wrpo.engines.base import EngineSettings
from wrpo.engines.vllm import VLLMSettings
from wrpo.recipe.thinking import Thinking
from wrpo.settings import Section, Share, any_of, kinds_in


def _optional(section: type[Section], name: str) -> Any:
    """The same fields, each of them optional: what a source or the target overrides."""
    fields: dict[str, Any] = {
        key: (_type_of(info) | None, Field(default=None, description=info.description))
        for key, info in section.model_fields.items()
    }
    return create_model(name, __base__=Section, __doc__=section.__doc__, **fields)


def _any_field(kinds: Mapping[str, type[Section]], name: str) -> Any:
    """The fields of all engines, each of them optional; the loader checks them by backend."""
    about = "Unset: that of `sample.engine`."
    fields: dict[str, Any] = {
        "backend": (Literal[tuple(kinds)] | None, Field(default=None, description=about))
    }
    for key in dict.fromkeys(key for kind in kinds.values() for key in kind.model_fields):
        found = {b: k.model_fields[key] for b, k in kinds.items() if key in k.model_fields}
        allowed: Any = None
        for info in found.values():
            allowed = _type_of(info) | allowed
        of = "" if len(found) == len(kinds) else f"{', '.join(found)}: "
        about = f"{of}{next(iter(found.values())).description}"
        fields.setdefault(key, (allowed, Field(default=None, description=about)))
    doc = "What differs from `sample.engine`: fields of the backend that draws the responses."
    return create_model(name, __base__=Section, __doc__=doc, **fields)


def _type_of(info: FieldInfo) -> Any:
    """A field's type with its limits."""
    limited: Any = info.annotation
    for limit in info.metadata:
        limited = Annotated[limited, limit]
    return limited


class Sampling(Section):
    """How responses are drawn; nothing is taken from a model's own generation_config.json."""

    responses: int = Field(5, ge=1, description="Responses per prompt.")
    temperature: float = Field(0.8, ge=0.0, description="0 is greedy.")
    top_p: float = Field(0.95, gt=0.0, le=1.0, description="Nucleus mass; 1 is off.")
    top_k: int = Field(0, ge=0, description="Candidates kept per token; 0 is off.")
    min_p: float = Field(0.0, ge=0.0, le=1.0, description="Floor relative to the best token.")
    repetition_penalty: float = Field(1.0, gt=0.0, description="1 is off.")
    presence_penalty: float = Field(0.0, description="0 is off.")
    frequency_penalty: float = Field(0.0, description="0 is off.")
    max_tokens: int = Field(4096, ge=1, description="Longest response in tokens of the source.")
    keep_logprobs: bool = Field(False, description="Keep the log-prob sum of each response.")


ENGINES = kinds_in("wrpo.engines", EngineSettings, tag="backend")
"""The engine settings of every backend, by its name."""

if TYPE_CHECKING:  # type checkers see the fields; at run time each of them may be unset
    SamplingOverride = Sampling
    Engine = EngineSettings

    class EngineOverride(Section):
        backend: str | None = None
else:
    SamplingOverride = _optional(Sampling, "SamplingOverride")
    EngineOverride = _any_field(ENGINES, "EngineOverride")
    Engine = any_of(ENGINES, tag="backend", default="vllm")


_ALWAYS_SENT = {"model", "messages", "prompt", "stream", "stop_token_ids", "return_token_ids"}
_SENT = {*Sampling.model_fields, *_ALWAYS_SENT, "n", "seed", "logprobs"}
"""Fields of a request that the toolkit sets."""


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
    thinking: Thinking = Field(
        default_factory=Thinking,
        description="Whether the model thinks before it answers, and how it writes that: auto, on, "
        "off, or a section.",
    )
    trust_remote_code: bool = Field(False, description="Run Python code from the model's folder.")
    parameters_b: float | None = Field(None, gt=0, description="Size in billions, for planning.")
    active_parameters_b: float | None = Field(
        None, gt=0, description="What one token uses of it, in a mixture of experts; for planning."
    )
    sampling: SamplingOverride = Field(
        default_factory=SamplingOverride, description="What differs from `sample` for this model."
    )
    body: dict[str, Any] = Field(
        default_factory=dict,
        description="Servers: further fields of each request, e.g. reasoning_effort; null leaves a "
        "field out that the server refuses; max_completion_tokens replaces max_tokens.",
    )
    engine: EngineOverride = Field(
        default_factory=EngineOverride, description="What differs from `sample.engine`."
    )

    @field_validator("body")
    @classmethod
    def _only_further_fields(cls, body: dict[str, Any]) -> dict[str, Any]:
        for name in sorted(_SENT & body.keys()):
            if body[name] is not None or name in _ALWAYS_SENT:
                raise ValueError(f"{name} is set by the toolkit, or by a field of `sampling`")
        return body


class Source(Model):
    """A teacher."""

    domains: list[str] | None = Field(
        None, min_length=1, description="Only prompts of these domains; unset: all."
    )


class SampleRouter(Section):
    """Sends each prompt to a few of the sources; `python -m wrpo.routing` learns which."""

    file: Path = Field(description="What `python -m wrpo.routing` has written.")
    per_prompt: int = Field(1, ge=1, description="Sources that each prompt is sent to.")


class Sample(Sampling):
    """Sampling of every model; the strongest word has the source, or `target`, then the domain."""

    target: SamplingOverride = Field(
        default_factory=SamplingOverride, description="What differs for the SFT target."
    )
    domains: dict[str, SamplingOverride] = Field(
        default_factory=dict, description="What differs for the prompts of a domain."
    )
    router: SampleRouter | None = Field(
        None, description="Which sources a prompt is sent to; unset: all. docs/routing.md"
    )
    max_prompt_tokens: int = Field(1800, ge=1, description="Longer prompts are dropped.")
    chunk_prompts: int = Field(256, ge=1, description="Prompts per part file: the unit of resume.")
    max_dropped_share: Share = Field(0.2, description="The stage stops above this share.")
    engine: Engine = Field(
        default_factory=VLLMSettings,
        description="Speed only.",
    )

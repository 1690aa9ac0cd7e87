"""The judges of a recipe: models behind an OpenAI-compatible API that judge responses."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator, model_validator

from wrpo.engines.servers.settings import BaseURL, ServerSettings
from wrpo.settings import Section

_SET_ELSEWHERE = {"model", "messages", "temperature", "max_tokens", "n", "seed", "stream"}


class JudgeEngine(ServerSettings):
    """Where a judge is served, how fast it is asked, and what that costs."""

    endpoints: list[BaseURL] = Field(
        min_length=1, description="Base URLs of servers of this one model, e.g. http://host:8000/v1"
    )
    concurrency: int = Field(16, ge=1, description="Requests in flight per endpoint.")
    request_timeout_s: float = Field(
        600.0, gt=0.0, description="Seconds until a request is sent again."
    )
    input_price: float | None = Field(
        None, ge=0.0, description="Dollars per million input tokens; for the estimate of costs."
    )
    output_price: float | None = Field(
        None, ge=0.0, description="Dollars per million output tokens; for the estimate of costs."
    )


class JudgeModel(Section):
    """One judge: the model, what is asked of it, and where it is served."""

    model: str = Field(description="The model's name on the server; hosted: a dated snapshot.")
    version: str = Field(
        "",
        description="Free text that tells two judges of one name apart, e.g. the date or the "
        "revision that is served. Part of the identity of every judgement.",
    )
    temperature: float | None = Field(
        0.0, ge=0.0, description="0 is greedy; null: not sent, for models that refuse the field."
    )
    max_tokens: int | None = Field(
        2048, ge=1, description="Longest verdict; null: not sent, for models that refuse the field."
    )
    body: dict[str, Any] = Field(
        default_factory=dict,
        description="Further fields of each request, e.g. reasoning_effort or "
        "chat_template_kwargs: {enable_thinking: false}.",
    )
    engine: JudgeEngine = Field(description="Where it is served, speed and prices; no result.")

    @model_validator(mode="before")
    @classmethod
    def _engine_fields_stand_below_engine(cls, given: Any) -> Any:
        names = sorted(JudgeEngine.model_fields.keys() & given) if isinstance(given, dict) else []
        if names:
            raise ValueError(
                f"{', '.join(names)} belong under `engine:` of the judge, because no verdict "
                f"depends on them; write engine: {{{names[0]}: ...}}"
            )
        return given

    @field_validator("body")
    @classmethod
    def _only_further_fields(cls, body: dict[str, Any]) -> dict[str, Any]:
        for name in sorted(body.keys() & _SET_ELSEWHERE):
            raise ValueError(f"{name} is set by the toolkit or by a field beside `body`")
        return body

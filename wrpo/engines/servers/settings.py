"""Where the servers of a model are, and how they are asked."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from wrpo.settings import Section


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


class ServerSettings(Section):
    """Servers of one and the same model, and how they are asked."""

    endpoints: list[BaseURL] = Field(
        default_factory=list, description="Base URLs of servers of one and the same model."
    )
    api_key_env: VariableName | None = Field(
        None, description="Environment variable that holds the API key; unset: no key."
    )
    concurrency: int = Field(64, ge=1, description="Requests in flight per endpoint.")
    request_timeout_s: float = Field(
        3600.0, gt=0.0, description="Seconds until a request is sent again."
    )
    retries: int = Field(8, ge=0, description="Failures of one request before the stage stops.")

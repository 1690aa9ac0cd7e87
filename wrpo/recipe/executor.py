"""Where the parts of sampling and scoring are made; it changes the speed and nothing else."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from wrpo.settings import Section


class LocalExecutor(Section):
    """In this process, and in further ones on this machine where `engine.replicas` asks."""

    type: Literal["local"] = "local"


class RayExecutor(Section):
    """By actors of a Ray cluster, one per engine replica; each pulls the next part when it can."""

    type: Literal["ray"]
    address: str | None = Field(
        "auto",
        description="auto: the cluster this machine belongs to; ray://HOST:10001: a cluster "
        "elsewhere; null: one on this machine alone, for this command.",
    )
    shared: str | None = Field(
        None,
        description="URL of a folder that every machine reaches (s3://, gs://, file:///nfs/...); "
        "parts and inputs travel through it. Unset: every machine sees `runs` itself.",
    )
    cpus_per_replica: int = Field(1, ge=1, description="CPUs that an actor asks Ray for.")
    attempts: int = Field(
        3, ge=1, description="Workers that a part may lose before the stage stops."
    )

    @field_validator("address")
    @classmethod
    def _is_address(cls, address: str | None) -> str | None:
        if address is None or re.fullmatch(r"auto|(ray://)?[\w.-]+:\d+", address):
            return address
        raise ValueError(f'"{address}" is no address: auto, ray://HOST:PORT, HOST:PORT or null')

    @field_validator("shared")
    @classmethod
    def _is_folder_url(cls, shared: str | None) -> str | None:
        if shared is None:
            return None
        if not re.fullmatch(r"[a-z][a-z0-9+]*://[^@?#]+", shared) or shared.startswith("memory:"):
            raise ValueError(
                "must be the URL of a folder that other machines reach, like s3://bucket/folder or "
                "file:///nfs/folder, without user name or key"
            )
        return shared.rstrip("/")


Executor = Annotated[LocalExecutor | RayExecutor, Field(discriminator="type")]

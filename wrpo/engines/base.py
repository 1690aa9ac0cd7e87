"""What the sampler asks of an engine, and what the settings of every backend share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from pydantic import Field

from wrpo.pipeline.tables import Drop
from wrpo.settings import Section

if TYPE_CHECKING:
    from wrpo.chat.template import Messages
    from wrpo.engines.servers.settings import ServerSettings
    from wrpo.recipe.fusions import FusedModels
    from wrpo.recipe.sampling import Model

Place = tuple[int, int, int]
"""(part, position of the prompt in the part, index of the response)."""


@dataclass(frozen=True, slots=True)
class Request:
    """One response to draw: a prompt, and the seed of this response.

    `prompt_ids` are the rendered `messages`; empty where the engine sends messages itself.
    `sampling` are the resolved sampling fields of the prompt's domain, where they are not the
    engine's.
    """

    row: Place
    prompt_ids: list[int]
    messages: Messages
    seed: int
    sampling: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """One drawn response.

    `token_ids` end in the stop token, if one was drawn; None, as `token_count` may be, where a
    server does not tell. `logprob` is the sum over the tokens in nats, where it was asked for.
    `thought` is what came apart from the text, from servers that divide responses themselves;
    `thought_tokens` counts its tokens where they say.
    """

    row: Place
    text: str
    token_ids: list[int] | None
    token_count: int | None
    finish_reason: str
    logprob: float | None
    thought: str | None = None
    thought_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A response that the engine will not give, and why."""

    row: Place
    why: Drop


class GenerationEngine(Protocol):
    """Draws responses; they come in the order in which they finish."""

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion | Unanswered]: ...

    def close(self) -> None:
        """Ends processes of its own, if it has any."""


@dataclass(frozen=True, slots=True)
class GenerationTask:
    """What an engine is loaded for.

    Attributes:
        model: path or hub id of the weights.
        entry: the recipe's entry of that model (revision, dtype, quantisation, adapter).
        sampling: resolved sampling fields; with those of a request, the only sampling parameters.
        stop_token_ids: ids that end a response.
        max_model_len: prompt plus response, in tokens.
        fused: several models, in place of `model`, for the engine that fuses responses.
    """

    model: str
    entry: Model
    sampling: dict[str, Any]
    stop_token_ids: list[int]
    max_model_len: int
    fused: FusedModels | None = None


class Capacity(NamedTuple):
    """What a plan has to know of an engine that computes in this process.

    Attributes:
        gpus: that one copy of the model occupies.
        sequences: computed together.
        memory_share: of the GPU's memory that weights and cache may take.
        shares_prompts: whether the responses of a prompt read it once.
    """

    gpus: int = 1
    sequences: int = 1
    memory_share: float = 0.9
    shares_prompts: bool = False


class EngineSettings(Section):
    """How sampling runs, whatever the backend; no field changes what is asked of the model.

    A backend is one file in `wrpo/engines` with a subclass whose field `backend` names it.
    """

    extras: ClassVar[frozenset[str]] = frozenset()
    """Extras of `pip install wrpo[...]` that it needs."""

    backend: str
    replicas: int | None = Field(
        None,
        ge=1,
        description="Copies of the model that share the work, each with GPUs of its own. On one "
        "machine, processes (unset: 1); on Ray, actors (unset: as many as fit). For servers, list "
        "endpoints instead.",
    )

    @property
    def server(self) -> ServerSettings | None:
        """Where the servers are; None: the model is loaded into this process."""
        return None

    @property
    def sends_messages(self) -> bool:
        """Whether the engine renders the chat, so that the sampler needs no tokenizer."""
        return False

    @property
    def capacity(self) -> Capacity:
        """What one copy of the model takes of this machine, and does at once."""
        return Capacity(gpus=0 if self.server else 1)

    def served_as(self, model: str) -> str:
        """The name of a model where it is served."""
        return model

    def prepare(self) -> None:
        """Sets what has to be set before torch is imported."""

    def load(self, task: GenerationTask) -> GenerationEngine:
        """The engine, ready to draw responses.

        Raises:
            RecipeError: the settings do not fit this backend.
            ModelError: the model cannot be loaded, or a package is missing.
        """
        raise NotImplementedError(f"{type(self).__name__} has no load()")

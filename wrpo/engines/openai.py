"""Servers with the OpenAI API: `vllm serve`, SGLang, or a hosted model.

Each response is a request of its own with its own seed, and every sampling field is sent, because a
server fills what is missing from the model's generation_config.json.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from wrpo.engines.base import (
    Completion,
    EngineSettings,
    GenerationTask,
    Request,
    Unanswered,
)
from wrpo.engines.servers.replies import choice_of, ending, texts_of
from wrpo.engines.servers.settings import ServerSettings
from wrpo.errors import ModelError, RecipeError
from wrpo.pipeline.tables import Drop

if TYPE_CHECKING:
    from wrpo.engines.servers.client import Servers
    from wrpo.recipe.sampling import Model

_NOT_IN_CHAT_API = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
_FAILED = "failed"
_REFUSALS_THAT_PROVE = 8
"""So many prompts refused before any response came: it is the settings, not the prompts. So many
failed since the last response: it is the server. Fewer may be the last ones of a resumed stage; the
limit on dropped responses judges them."""


class OpenAISettings(EngineSettings, ServerSettings):
    """Servers with the OpenAI API.

    `api: chat` is the one field that changes what a model is asked: its server makes the prompt
    with a template of its own.
    """

    extras: ClassVar[frozenset[str]] = frozenset({"server"})

    backend: Literal["openai"] = Field("openai", description="Servers with the OpenAI API.")
    api: Literal["completions", "chat"] = Field(
        "completions",
        description="completions sends token ids (vLLM, SGLang); chat sends messages, for hosted "
        "models whose tokenizer is not at hand.",
    )
    served_model: str | None = Field(
        None, description="The model's name on the server; unset: `model`."
    )

    @property
    def server(self) -> ServerSettings:
        """These fields."""
        return self

    @property
    def sends_messages(self) -> bool:
        """Whether the server renders the chat, so that no tokenizer is needed here."""
        return self.api == "chat"

    def served_as(self, model: str) -> str:
        """The name of a model on the servers."""
        return self.served_model or model

    def load(self, task: GenerationTask) -> OpenAIEngine:
        """A client of the servers."""
        return OpenAIEngine(task, self)


class OpenAIEngine:
    """A client of the servers `engine.endpoints`.

    With `api: completions` the server gets the token ids and stop ids that offline vLLM gets. With
    `api: chat` it gets messages and ends the response as it is used to.

    Raises:
        RecipeError: no endpoints, no key, or an adapter, or settings that the chat API lacks.
        ModelError: the package httpx is missing.
    """

    def __init__(self, task: GenerationTask, engine: OpenAISettings) -> None:
        entry = task.entry
        if entry.adapter:
            raise RecipeError(
                f"adapter {entry.adapter} is the server's to load: serve it there (vllm serve "
                f"--enable-lora --lora-modules NAME={entry.adapter}), write NAME as "
                "engine.served_model, and leave adapter out"
            )
        self._where = ", ".join(engine.endpoints)
        self._chat = engine.sends_messages
        self._entry = entry
        self._sampling = task.sampling
        self._name = engine.served_as(task.model)
        self._stop_token_ids = task.stop_token_ids
        self._fields(task.sampling)  # refuses at once what the chat API lacks
        self._window = engine.concurrency * len(engine.endpoints)
        self._servers = _servers(engine)
        self._runner = asyncio.Runner()  # one for all calls: connections belong to its loop
        self._answered = False

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion | Unanswered]:
        """Yields every response as it comes.

        Raises:
            ModelError: no request can be answered, or one failed too often.
        """
        tasks: set[asyncio.Task[Completion | Unanswered]] = set()
        try:
            yield from self._stream(iter(requests), tasks)
        finally:
            self._runner.run(_cancel(tasks))

    def close(self) -> None:
        """Closes the connections."""
        self._runner.run(self._servers.close())
        self._runner.close()

    def _stream(
        self, waiting: Iterator[Request], tasks: set[asyncio.Task[Completion | Unanswered]]
    ) -> Iterator[Completion | Unanswered]:
        loop = self._runner.get_loop()
        held: list[Unanswered] = []
        exhausted = False
        while True:
            while not exhausted and len(tasks) < self._window and not _hopeless(held):
                request = next(waiting, None)
                if request is None:
                    exhausted = True
                    break
                tasks.add(loop.create_task(self._response(request)))
            if not tasks:
                break
            for task in self._runner.run(_first(tasks)):
                response = task.result()
                tasks.discard(task)
                if isinstance(response, Unanswered):
                    if response.why.reason == _FAILED or not self._answered:
                        held.append(response)
                    else:
                        yield response
                    continue
                self._answered = True
                yield from held
                held = []
                yield response
        self._stop_if_hopeless(held)
        yield from held

    def _stop_if_hopeless(self, held: list[Unanswered]) -> None:
        """Raises ModelError where no request can be answered, by what was held back."""
        failed = [one.why.detail for one in held if one.why.reason == _FAILED]
        if failed and (_hopeless(held) or not self._answered):
            raise ModelError(failed[0])
        if _hopeless(held):
            raise ModelError(
                f"{self._where}: every request is refused, the first with: "
                f"{held[0].why.detail}. Correct what it names under sample or engine"
            )

    async def _response(self, request: Request) -> Completion | Unanswered:
        from wrpo.engines.servers.client import RequestFailed, RequestRefused

        sampling = request.sampling or self._sampling
        body = self._fields(sampling)
        if self._chat:
            body["messages"] = [dict(message) for message in request.messages]
            if variables := self._entry.thinking.chat_template_kwargs:
                body["chat_template_kwargs"] = variables
        else:
            body["prompt"] = request.prompt_ids
        if sampling["temperature"] > 0:
            body["seed"] = request.seed
        body = _with_further_fields(body, self._entry.body)
        try:
            reply = await self._servers.post(
                "chat/completions" if self._chat else "completions", body
            )
        except RequestRefused as refused:
            return Unanswered(request.row, Drop("refused", str(refused)))
        except RequestFailed as failed:
            return Unanswered(request.row, Drop("failed", str(failed)))
        try:
            return self._read(request, reply, keep_logprobs=sampling["keep_logprobs"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ModelError(
                f"{self._where}: a reply is not of the OpenAI API "
                f"({type(error).__name__} {error}): {str(reply)[:300]}"
            ) from None

    def _fields(self, sampling: dict[str, Any]) -> dict[str, Any]:
        if self._chat:
            _refuse_what_chat_lacks(self._entry, sampling)
            return _common_fields(self._name, sampling)
        own = _completion_fields(sampling, self._stop_token_ids)
        return _common_fields(self._name, sampling) | own

    def _read(
        self, request: Request, reply: dict[str, Any], *, keep_logprobs: bool
    ) -> Completion | Unanswered:
        choice = choice_of(reply)
        ended = ending(choice["finish_reason"])
        if ended not in ("stop", "length"):
            why = Drop("not_finished", f"finish_reason {choice['finish_reason']}")
            return Unanswered(request.row, why)
        thought, text = texts_of(choice)
        try:
            f"{thought}{text}".encode()
        except UnicodeEncodeError as error:  # JSON can spell half of a surrogate pair
            return Unanswered(request.row, Drop("not_unicode", str(error)))
        token_ids = choice.get("token_ids")
        usage = reply.get("usage") or {}
        details = usage.get("completion_tokens_details") or {}
        return Completion(
            row=request.row,
            text=text,
            token_ids=token_ids,
            token_count=len(token_ids) if token_ids else usage.get("completion_tokens"),
            finish_reason=ended,
            logprob=self._logprob(choice.get("logprobs")) if keep_logprobs else None,
            thought=thought,
            thought_tokens=details.get("reasoning_tokens") if thought else None,
        )

    def _logprob(self, logprobs: dict[str, Any] | None) -> float:
        if logprobs is None:
            raise ModelError(
                f"{self._where}: no log-probs came back; this server does "
                "not give them: set sample.keep_logprobs=false"
            )
        if self._chat:
            return float(sum(token["logprob"] for token in logprobs["content"]))
        return float(sum(logprobs["token_logprobs"]))


def _servers(engine: OpenAISettings) -> Servers:
    try:
        from wrpo.engines.servers.client import Servers
    except ImportError as error:
        raise ModelError(f"{error}; install it: pip install 'wrpo[server]'") from error
    return Servers(engine)


def _common_fields(model: str, sampling: dict[str, Any]) -> dict[str, Any]:
    """What both forms of request say alike."""
    names = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "max_tokens")
    fields = {"model": model, "n": 1, **{name: sampling[name] for name in names}}
    if sampling["keep_logprobs"]:
        fields["logprobs"] = True
    return fields


def _completion_fields(sampling: dict[str, Any], stop_token_ids: list[int]) -> dict[str, Any]:
    """What vLLM and SGLang understand beyond OpenAI's fields."""
    fields = {
        "top_k": sampling["top_k"] or -1,  # off is -1 to both, 0 only to vLLM
        "min_p": sampling["min_p"],
        "repetition_penalty": sampling["repetition_penalty"],
        "stop_token_ids": stop_token_ids,
        "return_token_ids": True,
    }
    if sampling["keep_logprobs"]:
        fields["logprobs"] = 0  # here a number: alternatives beside the token that was drawn
    return fields


def _with_further_fields(body: dict[str, Any], further: dict[str, Any]) -> dict[str, Any]:
    """The request with the recipe's own fields; those that are null are left out."""
    if further.get("max_completion_tokens") is not None:
        further = {"max_tokens": None, **further}
    return {name: value for name, value in {**body, **further}.items() if value is not None}


def _refuse_what_chat_lacks(entry: Model, sampling: dict[str, Any]) -> None:
    set_ = [name for name, off in _NOT_IN_CHAT_API.items() if sampling[name] != off]
    if set_:
        raise RecipeError(
            f"api: chat cannot express {', '.join(f'{name}={sampling[name]}' for name in set_)}; "
            "leave it out for this source, or use api: completions on a server that takes it"
        )
    if entry.chat_template:
        raise RecipeError(
            f"api: chat uses the server's chat template, not {entry.chat_template}; leave "
            "chat_template out, or use api: completions"
        )


def _hopeless(held: list[Unanswered]) -> bool:
    return len({refusal.row[:2] for refusal in held}) >= _REFUSALS_THAT_PROVE


async def _cancel(tasks: set[asyncio.Task[Completion | Unanswered]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _first(
    tasks: set[asyncio.Task[Completion | Unanswered]],
) -> set[asyncio.Task[Completion | Unanswered]]:
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    return done

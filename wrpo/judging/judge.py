"""A judge that is asked over the OpenAI chat API and never asked the same thing twice."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from wrpo.errors import ModelError
from wrpo.judging.cache import JudgementCache
from wrpo.judging.cost import CHARACTERS_PER_TOKEN, Cost, Tokens, output_bound
from wrpo.judging.request import Body, JudgeRequest, Verdict, request_key
from wrpo.judging.settings import JudgeModel
from wrpo.settings import SPEED_FIELDS

if TYPE_CHECKING:
    from tqdm import tqdm

    from wrpo.engines.servers.client import Servers

logger = logging.getLogger(__name__)

_FINISHED = ("stop", "eos", "length")
_CUT_SHORT = ("None", "abort", "error")
_REFUSALS_THAT_PROVE = 8
"""So many requests without a verdict before any came: it is the settings, not the requests."""


class Judge:
    """One judge of the recipe, `judges.NAME`, with the cache that keeps its verdicts.

        with JudgementCache(cache_path(recipe.runs)) as cache:
            judge = Judge("gpt", recipe.judges["gpt"], cache)
            requests = [JudgeRequest([{"role": "user", "content": ...}], template="pair-1f3a")]
            logger.info("%s", judge.estimate(requests))   # before any money is spent
            verdicts = judge.ask(requests)                # in the order of the requests
            logger.info("%s", judge.used)                 # what it did cost

    Reading a rating or a label is `wrpo.judging.reading`; replies that cannot be read, and
    refusals (text None), are to be counted and shown, never taken for a tie.

    Every verdict is committed to the cache as it arrives. A second `ask`, in this process or after
    a kill, sends only what is missing. Equal requests are asked once; for several draws of one
    request give each a seed. Refusals and replies that are empty or cut are not cached.

    Model, version, sampling fields and template identify a judgement; endpoints and keys do not.

    Args:
        name: as in the recipe, for messages.
    """

    def __init__(self, name: str, settings: JudgeModel, cache: JudgementCache) -> None:
        self.name = name
        self.settings = settings
        self.used = Cost(0, 0, Tokens(), Tokens().dollars(settings))
        self._cache = cache

    @property
    def identity(self) -> dict[str, Any]:
        """What a result must carry, so that other judges' numbers are never mixed with it."""
        return judge_identity(self.name, self.settings)

    def estimate(self, requests: Sequence[JudgeRequest]) -> Cost:
        """The cost of `ask(requests)`: nothing is sent.

        Input tokens follow from characters, at the rate measured on cached judgements of the same
        judge and template, else at 4 characters per token; output tokens are the measured mean,
        else the limit.
        """
        distinct = {self._key(request): request for request in requests}
        missing = [one for key, one in distinct.items() if self._cached(key, one) is None]
        tokens = Tokens()
        for template in {one.template for one in missing}:
            tokens += self._expected([one for one in missing if one.template == template])
        cached = len(distinct) - len(missing)
        return Cost(len(distinct), cached, tokens, tokens.dollars(self.settings))

    def ask(self, requests: Sequence[JudgeRequest]) -> list[Verdict]:
        """The verdicts in the order of the requests; cached ones are not asked for again.

        Raises:
            RecipeError: the key or the endpoints are not usable.
            ModelError: no request can be answered, or one failed too often; those that were
                answered are cached.
        """
        keys = [self._key(request) for request in requests]
        distinct = dict(zip(keys, requests, strict=True))
        found = {key: self._cached(key, one) for key, one in distinct.items()}
        verdicts = {key: verdict for key, verdict in found.items() if verdict is not None}
        waiting = {key: one for key, one in distinct.items() if key not in verdicts}
        cached = len(verdicts)
        if waiting:
            verdicts |= asyncio.run(self._ask(waiting, proven=cached > 0))
        self._count(len(distinct), cached, [verdicts[key] for key in waiting])
        return [verdicts[key] for key in keys]

    def _cached(self, key: str, request: JudgeRequest) -> Verdict | None:
        verdict = self._cache.get(key)
        return None if verdict is None or verdict.missing(limited=request.limited) else verdict

    def _count(self, judgements: int, cached: int, fresh: list[Verdict]) -> None:
        tokens = self.used.tokens
        for verdict in fresh:
            tokens += Tokens(verdict.input_tokens, verdict.output_tokens)
        self.used = Cost(
            self.used.judgements + judgements,
            self.used.cached + cached,
            tokens,
            tokens.dollars(self.settings),
        )

    def _expected(self, requests: list[JudgeRequest]) -> Tokens:
        """Tokens of requests that share a template."""
        settings = self.settings
        measured = self._cache.measured(settings.model, settings.version, requests[0].template)
        rate, output = measured or (CHARACTERS_PER_TOKEN, None)
        outputs = sum(
            output_bound(measured=output, limit=one.max_tokens or settings.max_tokens)
            for one in requests
        )
        return Tokens(round(sum(one.characters for one in requests) / rate), round(outputs))

    def _key(self, request: JudgeRequest) -> str:
        version = self.settings.version
        return request_key(self._body(request), template=request.template, version=version)

    def _body(self, request: JudgeRequest) -> Body:
        """Every sampling field is sent: a server fills the others from generation_config.json."""
        settings = self.settings
        temperature = settings.temperature if request.temperature is None else request.temperature
        limit = settings.max_tokens if request.max_tokens is None else request.max_tokens
        body: Body = {
            "model": settings.model,
            "messages": [dict(message) for message in request.messages],
            "n": 1,
            **settings.body,
        }
        if settings.temperature is not None:
            body |= {"temperature": temperature, "top_p": settings.body.get("top_p", 1.0)}
        if settings.max_tokens is not None:
            body["max_tokens"] = limit
        if request.top_logprobs:
            body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
        if request.seed is not None:
            body["seed"] = request.seed
        return body

    async def _ask(self, waiting: dict[str, JudgeRequest], *, proven: bool) -> dict[str, Verdict]:
        """Verdicts by key; unless `proven` by earlier ones, refusals alone are an error."""
        from tqdm import tqdm

        from wrpo.engines.servers.client import Servers

        engine, place = self.settings.engine, f"judges.{self.name}"
        servers = Servers(engine, section=f"{place}.engine", model_place=f"{place}.model")
        window = engine.concurrency * len(engine.endpoints)
        verdicts: dict[str, Verdict] = {}
        rest = iter(waiting.items())
        with tqdm(total=len(waiting), desc=f"judge {self.name}", unit="judgement") as bar:
            workers = [
                asyncio.create_task(self._work(servers, rest, verdicts, bar, proven=proven))
                for _ in range(min(window, len(waiting)))
            ]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
                await servers.close()
        if not proven:
            self._refuse_if_all_refused(verdicts)
        return verdicts

    async def _work(
        self,
        servers: Servers,
        rest: Iterator[tuple[str, JudgeRequest]],
        verdicts: dict[str, Verdict],
        bar: tqdm[None],
        *,
        proven: bool,
    ) -> None:
        """One of several that take the next request until none is left."""
        for key, request in rest:
            body = self._body(request)
            verdict = await self._response(servers, body)
            if not verdict.missing(limited=request.limited):
                template, version = request.template, self.settings.version
                self._cache.remove(key, limited=request.limited)
                self._cache.put(key, body, verdict, template=template, version=version)
            verdicts[key] = verdict
            bar.update()
            if len(verdicts) == _REFUSALS_THAT_PROVE and not proven:
                self._refuse_if_all_refused(verdicts)
                self._refuse_if_all_missing(verdicts, limited=request.limited)

    async def _response(self, servers: Servers, body: Body) -> Verdict:
        from wrpo.engines.servers.client import RequestRefused

        try:
            reply = await servers.post("chat/completions", body)
        except RequestRefused as refused:
            return Verdict(None, finish_reason="refused", detail=str(refused))
        try:
            verdict = _verdict(reply)
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise ModelError(
                f"judges.{self.name}: a reply is not of the OpenAI API "
                f"({type(error).__name__} {error}): {str(reply)[:300]}"
            ) from None
        if verdict.finish_reason in _CUT_SHORT:
            raise ModelError(
                f"judges.{self.name}: the server broke off a verdict (finish_reason "
                f"{verdict.finish_reason}). Check the server, then run the same command again; "
                "it goes on where it was"
            )
        return verdict

    def _refuse_if_all_refused(self, verdicts: dict[str, Verdict]) -> None:
        refused = [one for one in verdicts.values() if one.text is None]
        if refused and len(refused) == len(verdicts):
            raise ModelError(
                f"judges.{self.name}: every request is refused, the first with: "
                f"{refused[0].detail}. Correct what it names under judges.{self.name}"
            )

    def _refuse_if_all_missing(self, verdicts: dict[str, Verdict], *, limited: bool) -> None:
        missing = [one.missing(limited=limited) for one in verdicts.values()]
        if all(missing):
            raise ModelError(
                f"judges.{self.name}: none of the first {len(missing)} replies holds a verdict; "
                f"the first is {missing[0]}. Raise judges.{self.name}.max_tokens "
                f"({self.settings.max_tokens}), or let the judge think less "
                f"(judges.{self.name}.body)"
            )


def judge_identity(name: str, settings: JudgeModel) -> dict[str, Any]:
    """Name, model, version and sampling fields of a judge: what decides its verdicts."""
    return {"name": name, **settings.model_dump(mode="json", exclude=SPEED_FIELDS)}


def _verdict(reply: dict[str, Any]) -> Verdict:
    choice = reply["choices"][0]
    message = choice["message"]
    reason = str(choice["finish_reason"])
    tokens = (choice.get("logprobs") or {}).get("content") or []
    usage = reply.get("usage") or {}
    return Verdict(
        text=_text(message.get("content")) if reason in _FINISHED else None,
        top_logprobs=tuple(_alternatives(token) for token in tokens),
        tokens=tuple(str(token.get("token", "")) for token in tokens),
        thoughts=_text(message.get("reasoning_content") or message.get("reasoning")),
        finish_reason=reason,
        input_tokens=int(usage.get("prompt_tokens") or 0),
        output_tokens=int(usage.get("completion_tokens") or 0),
        detail="" if reason in _FINISHED else f"finish_reason {reason}",
    )


def _text(content: str | list[dict[str, Any]] | None) -> str:
    """The text of a message, whose parts some servers send apart."""
    if isinstance(content, list):
        return "".join(part["text"] for part in content if part.get("type") == "text")
    return content if isinstance(content, str) else ""


def _alternatives(token: dict[str, Any]) -> dict[str, float]:
    """Text to log-prob; of several tokens with one text, the likeliest."""
    found: dict[str, float] = {}
    for item in token.get("top_logprobs") or []:
        found[item["token"]] = max(item["logprob"], found.get(item["token"], -math.inf))
    return found

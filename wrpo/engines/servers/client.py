"""Servers of one model behind the OpenAI API: which is asked, how many requests at once, and what
is sent again after a failure."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import ssl
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from http import HTTPStatus
from typing import Any

import httpx

from wrpo.engines.servers.replies import BadReply, choice_of
from wrpo.engines.servers.settings import ServerSettings
from wrpo.errors import ModelError, RecipeError

logger = logging.getLogger(__name__)

_FIRST_DELAY_S = 0.5
_LONGEST_DELAY_S = 60.0
_CONNECT_TIMEOUT_S = 30.0
_WARN_EVERY_S = 30.0
_REFUSED = {400, 413, 422}
_TRANSIENT = {408, 409, 425, 429}
_OVERLOADED = {429, 503}
_CHECK_THE_SERVER = "See to the server, then run the same command again; it goes on where it was"


@cache
def _certificates() -> ssl.SSLContext:
    """Those that httpx trusts; it would read them again for every client, which takes 20 ms."""
    return httpx.create_ssl_context()


class RequestRefused(Exception):
    """A server refuses this request, whoever asks and however often."""


class RequestFailed(ModelError):
    """A request failed too often, by a fault that others need not meet."""


class _Failed(Exception):
    """A request that may succeed when it is sent again."""

    def __init__(
        self,
        why: str,
        *,
        server_wide: bool,
        rate_limited: bool = False,
        wait_s: float = 0.0,
        way_out: str = _CHECK_THE_SERVER,
    ) -> None:
        super().__init__(why)
        self.server_wide = server_wide
        self.rate_limited = rate_limited
        self.wait_s = wait_s
        self.way_out = way_out


@dataclass(eq=False)
class _Endpoint:
    url: str
    slots: asyncio.Semaphore
    load: int = 0
    answered: int = 0
    failures: int = 0
    locked: bool = False
    rests_until: float = 0.0
    warned_at: float = -_WARN_EVERY_S

    def rank(self) -> tuple[float, int]:
        """Smaller is better: awake, or soon so, then least requests waiting or in flight."""
        return max(0.0, self.rests_until - time.monotonic()), self.load

    def rest(self, at_least_s: float) -> float:
        """Asks nothing of this server for a while, longer each time; the seconds."""
        now = time.monotonic()
        if self.rests_until <= now:  # else all requests in flight meet the same trouble
            self.failures += 1
        pause = max(at_least_s, _delay(self.failures))
        self.rests_until = max(self.rests_until, now + pause)
        return pause

    async def awake(self) -> None:
        """Waits until the rest is over; spread, so that not all requests go out at once."""
        while (pause := self.rests_until - time.monotonic()) > 0:
            await asyncio.sleep(pause * random.uniform(1.0, 1.2))

    def warn(self, text: str) -> None:
        """Logs now and then, for the same reason."""
        if time.monotonic() - self.warned_at >= _WARN_EVERY_S:
            self.warned_at = time.monotonic()
            logger.warning("%s: %s", self.url, text)


class Servers:
    """Posts to whichever server has least to do; use inside one event loop, and close it.

    A server that cannot be reached, or answers 429 or 503, rests, and its requests go to others.
    HTTP 200 without a response in it counts as 502, or as the status that its error names. A status
    that no request can pass (401, 404) stops at once where nothing was answered and it comes twice;
    later it is sent again. The key is read from the environment and written nowhere.

    Args:
        settings: where the servers are.
        section: the recipe section of these settings, and
        model_place: the field with the model's name, as messages name them.

    Raises:
        RecipeError: no endpoints, or the variable with the API key is not usable.
    """

    def __init__(
        self,
        settings: ServerSettings,
        *,
        section: str = "engine",
        model_place: str = "engine.served_model",
    ) -> None:
        if not settings.endpoints:
            raise RecipeError(
                f"{section}.endpoints is empty; name the servers, "
                "e.g. endpoints: [http://localhost:8000/v1]"
            )
        self._section = section
        self._model_place = model_place
        self._retries = settings.retries
        self._key = api_key(settings.api_key_env, section)
        self._key_name = settings.api_key_env
        self._endpoints = [
            _Endpoint(url, asyncio.Semaphore(settings.concurrency)) for url in settings.endpoints
        ]
        timeout = httpx.Timeout(settings.request_timeout_s, connect=_CONNECT_TIMEOUT_S, pool=None)
        self._client = httpx.AsyncClient(
            verify=_certificates(),
            timeout=timeout,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
        )

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The reply to one request, sent again with growing pauses while that may help.

        Returns:
            An object whose first choice has a finish reason and a text (`replies.choice_of`).

        Raises:
            RequestRefused: the server will never answer this request.
            RequestFailed: this one failed too often.
            ModelError: no request can be answered.
        """
        failures = 0
        while True:
            endpoint = min(self._endpoints, key=_Endpoint.rank)
            before = endpoint.answered
            try:
                return await self._post(endpoint, path, body)
            except _Failed as failed:
                # A rate limit that lets others through is no failure: this one's turn will come.
                queued = failed.rate_limited and endpoint.answered > before
                failures = 0 if queued else failures + 1
                if failures > self._retries:
                    kind = ModelError if failed.server_wide else RequestFailed
                    raise kind(
                        f"{endpoint.url}: {failed}, {failures} times in a row. {failed.way_out}"
                    ) from None
                if failed.server_wide:
                    pause = endpoint.rest(failed.wait_s)
                    endpoint.warn(f"{failed}; left alone for {pause:.1f} s")
                else:
                    pause = max(failed.wait_s, _delay(failures))
                    endpoint.warn(f"{failed}; sent again in {pause:.1f} s")
                    await asyncio.sleep(pause)

    async def _post(self, endpoint: _Endpoint, path: str, body: dict[str, Any]) -> dict[str, Any]:
        endpoint.load += 1
        try:
            async with endpoint.slots:
                await endpoint.awake()
                response = await self._client.post(f"{endpoint.url}/{path}", json=body)
        except httpx.TransportError as error:
            why = f"{type(error).__name__} {error}".strip()
            unreachable = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            raise _Failed(why, server_wide=unreachable) from None
        finally:
            endpoint.load -= 1
        reply = self._read(endpoint, response, str(body["model"]))
        endpoint.answered += 1
        endpoint.failures = 0
        endpoint.locked = False
        return reply

    def _read(self, endpoint: _Endpoint, response: httpx.Response, model: str) -> dict[str, Any]:
        """The reply, if it is one; else the error that it stands for."""
        status, said = response.status_code, f"{response.status_code} {self._message(response)}"
        if status == HTTPStatus.OK:
            try:
                reply: dict[str, Any] = response.json()
                choice_of(reply)
                return reply
            except BadReply as bad:
                status, said = bad.status, self._hidden(str(bad))
            except ValueError:
                status = HTTPStatus.BAD_GATEWAY
                said = (
                    f"the reply is not JSON ({self._section}.endpoints): "
                    f"{self._hidden(response.text)[:200]!r}"
                )
        raise self._error(endpoint, response, status=status, said=said, model=model)

    def _error(
        self, endpoint: _Endpoint, response: httpx.Response, *, status: int, said: str, model: str
    ) -> Exception:
        """What an HTTP status means for the request."""
        if status in _REFUSED:
            return RequestRefused(said)
        if status in _TRANSIENT or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            if "insufficient_quota" in response.text:
                return ModelError(f"{endpoint.url}: {said}. The account has no credit left")
            return _Failed(
                said,
                server_wide=status in _OVERLOADED,
                rate_limited=status == HTTPStatus.TOO_MANY_REQUESTS,
                wait_s=_retry_after(response),
            )
        way_out = self._way_out(status, model)
        if endpoint.locked and not endpoint.answered:
            return ModelError(f"{endpoint.url}: {said}. {way_out}")
        endpoint.locked = True
        return _Failed(said, server_wide=True, way_out=way_out)

    def _way_out(self, status: int, model: str) -> str:
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            if self._key_name is None:
                return (
                    f"Set {self._section}.api_key_env to the environment variable that holds the "
                    "API key"
                )
            return f"Check the key in ${self._key_name}, and what it may use"
        if status == HTTPStatus.NOT_FOUND:
            return (
                f"Does this server serve a model named {model} ({self._model_place}), and does "
                f"the URL end in its base, mostly /v1 ({self._section}.endpoints)? "
                "GET /v1/models lists its names"
            )
        return f"Check {self._section}.endpoints"

    def _message(self, response: httpx.Response) -> str:
        """What the server says went wrong, on one line, without the key should it repeat that."""
        try:
            body = response.json()
            error = body.get("error", body)
            text = str(error.get("message", error) if isinstance(error, dict) else error)
        except (ValueError, AttributeError):
            text = response.text
        return " ".join(self._hidden(text).split())[:500]

    def _hidden(self, text: str) -> str:
        return text.replace(self._key, "[API key]") if self._key else text


def api_key(variable: str | None, section: str) -> str | None:
    """The key in an environment variable; None where no variable is named.

    Raises:
        RecipeError: the variable is not set, or holds no key.
    """
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise RecipeError(f"{section}.api_key_env: ${variable} is not set; put the API key there")
    if not (key.isascii() and key.isprintable()):
        raise RecipeError(f"{section}.api_key_env: ${variable} holds more than one line of ASCII")
    return key


def _delay(failures: int) -> float:
    """Seconds, doubling with each failure, spread so that requests do not return all at once."""
    longest = min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2.0 ** max(0, failures - 1))
    return longest * random.uniform(0.5, 1.0)


def _retry_after(response: httpx.Response) -> float:
    """Seconds that the server asks to wait: a number, or the time until a date."""
    text = response.headers.get("retry-after", "")
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0

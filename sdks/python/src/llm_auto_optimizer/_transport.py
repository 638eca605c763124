"""Sends requests over HTTP, tries again where that may help, and turns failures into errors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Callable, TypeVar, cast

import httpx

from llm_auto_optimizer._errors import NoAnswerError, OptimizerError, UnexpectedAnswerError
from llm_auto_optimizer._request import USER_AGENT, Request, decode
from llm_auto_optimizer._retry import RetryPolicy

T = TypeVar("T")
U = TypeVar("U")

# Seconds without a byte after which a stream counts as broken; the server sends a comment every 15.
_SILENCE = 45.0


class _Wire:
    """What both transports put into httpx and make of its failures."""

    def __init__(self, *, endpoint: str, api_key: str | None, timeout: float, retries: RetryPolicy) -> None:
        self.base = endpoint.rstrip("/")
        self.timeout = timeout
        self.retries = retries
        self._headers: dict[str, str] = {"User-Agent": USER_AGENT, "Accept": "application/json"}
        if api_key is not None:
            self._headers["Authorization"] = f"Bearer {api_key}"

    def arguments(self, request: Request[Any]) -> dict[str, Any]:
        """Of `httpx.Client.request` and its kin."""
        return {
            "method": request.method,
            "url": self.base + request.url,
            "params": request.params,
            "headers": {**self._headers, **request.headers},
            "content": request.content,
            "timeout": self.timeout,
        }

    def no_answer(self, request: Request[Any], error: Exception) -> NoAnswerError:
        text = f"{request.method} {self.base}{request.url}: {error or type(error).__name__}"
        return NoAnswerError(text, retryable=True)


class Transport(_Wire):
    """A server, a key, and how patient to be. Safe to share between threads.

    A client that is handed in is used as it is and stays its owner's to close.
    """

    def __init__(self, *, http_client: httpx.Client | None, **wire: Any) -> None:
        super().__init__(**wire)
        self._owned = http_client is None
        # Streams hold their connections, which must not keep others from theirs.
        self._http = http_client or httpx.Client(limits=httpx.Limits(max_keepalive_connections=20))

    def call(self, request: Request[T]) -> T:
        """The decoded answer, after as many tries as the policy allows.

        Raises:
            OptimizerError: the last try's error.
        """
        return self.call_for(request, lambda response: cast(T, decode(response)))

    def call_for(self, request: Request[Any], read: Callable[[httpx.Response], U]) -> U:
        """As `call`, with the answer read by `read`, whose `OptimizerError` counts as the try's."""
        attempt = 0
        while True:
            try:
                return read(self.send(request))
            except OptimizerError as error:
                delay = self.retries.delay(attempt, error)
                if delay is None:
                    raise
            time.sleep(delay)
            attempt += 1

    def send(self, request: Request[Any]) -> httpx.Response:
        """One try: the answer as it came, whatever its status.

        Raises:
            NoAnswerError: none came.
        """
        try:
            return self._http.request(**self.arguments(request))
        except httpx.RequestError as error:
            raise self.no_answer(request, error) from error
        except RuntimeError as error:
            if not self._http.is_closed:
                raise
            raise NoAnswerError("the client is closed") from error

    @contextmanager
    def stream(self, request: Request[Any]) -> Iterator[httpx.Response]:
        """An answer of server-sent events, to be read as it comes.

        Raises:
            OptimizerError: no such answer came, or it broke off while it was read.
        """
        arguments = {**self.arguments(request), "timeout": httpx.Timeout(self.timeout, read=_SILENCE)}
        try:
            with self._http.stream(**arguments) as response:
                if not response.is_success:
                    response.read()
                    decode(response)
                if not response.headers.get("Content-Type", "").startswith("text/event-stream"):
                    raise UnexpectedAnswerError("the answer is no stream", status=response.status_code)
                yield response
        except (httpx.RequestError, httpx.StreamError) as error:
            raise self.no_answer(request, error) from error
        except RuntimeError as error:
            if not self._http.is_closed:
                raise
            raise NoAnswerError("the client is closed") from error

    def close(self) -> None:
        """Closes the connections, unless the client was handed in."""
        if self._owned:
            self._http.close()


class AsyncTransport(_Wire):
    """The same for asyncio. httpx's connections belong to the event loop that made them, and so does this."""

    def __init__(self, *, http_client: httpx.AsyncClient | None, **wire: Any) -> None:
        super().__init__(**wire)
        self._owned = http_client is None
        self._http = http_client or httpx.AsyncClient()

    async def call(self, request: Request[T]) -> T:
        """As `Transport.call`."""
        return await self.call_for(request, lambda response: cast(T, decode(response)))

    async def call_for(self, request: Request[Any], read: Callable[[httpx.Response], U]) -> U:
        """As `Transport.call_for`."""
        attempt = 0
        while True:
            try:
                return read(await self.send(request))
            except OptimizerError as error:
                delay = self.retries.delay(attempt, error)
                if delay is None:
                    raise
            await asyncio.sleep(delay)
            attempt += 1

    async def send(self, request: Request[Any]) -> httpx.Response:
        """As `Transport.send`."""
        try:
            return await self._http.request(**self.arguments(request))
        except httpx.RequestError as error:
            raise self.no_answer(request, error) from error
        except RuntimeError as error:
            if not self._http.is_closed:
                raise
            raise NoAnswerError("the client is closed") from error

    async def close(self) -> None:
        """As `Transport.close`."""
        if self._owned:
            await self._http.aclose()

"""Sends requests over HTTP, tries again where that may help, and turns failures into errors."""

from __future__ import annotations

import time
from typing import Callable, TypeVar, cast

import httpx

from llm_auto_optimizer._errors import NoAnswerError, OptimizerError
from llm_auto_optimizer._request import USER_AGENT, Request, decode
from llm_auto_optimizer._retry import RetryPolicy

T = TypeVar("T")
U = TypeVar("U")


class Transport:
    """A server, a key, and how patient to be. Safe to share between threads.

    A client that is handed in is used as it is and stays its owner's to close.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        api_key: str | None,
        timeout: float,
        retries: RetryPolicy,
        http_client: httpx.Client | None,
    ) -> None:
        self._base = endpoint.rstrip("/")
        self._headers: dict[str, str] = {"User-Agent": USER_AGENT, "Accept": "application/json"}
        if api_key is not None:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._timeout = timeout
        self._retries = retries
        self._owned = http_client is None
        self._http = http_client or httpx.Client()

    def call(self, request: Request[T]) -> T:
        """The decoded answer, after as many tries as the policy allows.

        Raises:
            OptimizerError: the last try's error.
        """
        return self.call_for(request, lambda response: cast(T, decode(response)))

    def call_for(self, request: Request[T], read: Callable[[httpx.Response], U]) -> U:
        """As `call`, with the answer read by `read`, whose `OptimizerError` counts as the try's."""
        attempt = 0
        while True:
            try:
                return read(self.send(request))
            except OptimizerError as error:
                delay = self._retries.delay(attempt, error)
                if delay is None:
                    raise
            time.sleep(delay)
            attempt += 1

    def send(self, request: Request[T]) -> httpx.Response:
        """One try: the answer as it came, whatever its status.

        Raises:
            NoAnswerError: none came.
        """
        try:
            return self._http.request(
                request.method,
                self._base + request.url,
                params=request.params,
                headers={**self._headers, **request.headers},
                content=request.content,
                timeout=self._timeout,
            )
        except httpx.RequestError as error:
            raise NoAnswerError(
                f"{request.method} {self._base}{request.url}: {error or type(error).__name__}", retryable=True
            ) from error
        except RuntimeError as error:
            if not self._http.is_closed:
                raise
            raise NoAnswerError("the client is closed") from error

    def close(self) -> None:
        """Closes the connections, unless the client was handed in."""
        if self._owned:
            self._http.close()

"""Asks the server for a scope's configuration, and for whether it changed."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from email.utils import parsedate_to_datetime
from typing import Callable

import httpx

from llm_auto_optimizer import _calls as calls
from llm_auto_optimizer._config import ScopeAnswer, ScopeKey, parse_scope_answer
from llm_auto_optimizer._errors import UnexpectedAnswerError
from llm_auto_optimizer._request import Request, decode
from llm_auto_optimizer._stream import events
from llm_auto_optimizer._transport import Transport
from llm_auto_optimizer._types import JSON

_NOT_MODIFIED = 304


class ConfigSource:
    """Reads under this instance's own unit, which keeps the answer, and so its ETag, the same between
    changes; the units of single calls are assigned from the rollout that the answer carries."""

    def __init__(self, transport: Transport, *, instance_id: str) -> None:
        self._transport = transport
        self._instance_id = instance_id
        self._streams: dict[ScopeKey, httpx.Response] = {}
        self._lock = threading.Lock()

    def request(self, scope: ScopeKey, known: ScopeAnswer | None = None) -> Request[JSON]:
        """The read of `scope`; with an answer that is known, it may be said not to have changed."""
        etag = None if known is None else known.etag
        return calls.config(scope.service, scope.endpoint, self._instance_id, etag)

    def once(self, scope: ScopeKey) -> ScopeAnswer:
        """The answer now, tried once."""
        return read_answer(self._transport.send(self.request(scope)))

    def again(self, scope: ScopeKey, known: ScopeAnswer) -> ScopeAnswer | None:
        """The answer now, tried once; None where the server says that it has not changed."""
        response = self._transport.send(self.request(scope, known))
        return None if response.status_code == _NOT_MODIFIED else read_answer(response)

    def follow(
        self, scope: ScopeKey, accept: Callable[[ScopeAnswer], None], wanted: Callable[[], bool]
    ) -> None:
        """Hands over the scope's answers as the stream tells them, until it ends or is not wanted.

        The first is to come at once: a proxy that holds events back shows by none having come in time.
        """
        request = calls.config_stream(scope.service, scope.endpoint, self._instance_id)
        with self._transport.stream(request) as response:
            opened_at, server_ms = time.monotonic(), _server_ms(response.headers.get("Date"))
            with self._lock:
                self._streams[scope] = response
            opening = threading.Timer(self._transport.timeout, self.interrupt, args=(scope,))
            opening.daemon = True
            opening.start()
            try:
                for event in events(response.iter_lines()) if wanted() else ():
                    if not wanted():
                        return
                    if event.name == "config":
                        opening.cancel()
                        now = time.monotonic()
                        accept(_read_event(event.data, server_ms + (now - opened_at) * 1000, now))
            finally:
                opening.cancel()
                with self._lock:
                    if self._streams.get(scope) is response:
                        del self._streams[scope]

    def interrupt(self, scope: ScopeKey) -> None:
        """Ends the scope's stream, which another thread waits for."""
        with self._lock:
            response = self._streams.get(scope)
        network = None if response is None else response.extensions.get("network_stream")
        connection = None if network is None else network.get_extra_info("socket")
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def read_answer(response: httpx.Response) -> ScopeAnswer:
    """A scope's answer. Raises `OptimizerError` for any other."""
    received_at = time.monotonic()
    return parse_scope_answer(
        decode(response),
        etag=response.headers.get("ETag"),
        server_ms=_server_ms(response.headers.get("Date")),
        received_at=received_at,
    )


def _read_event(data: str, server_ms: float, received_at: float) -> ScopeAnswer:
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UnexpectedAnswerError("the stream holds no JSON", body=data) from error
    return parse_scope_answer(body, etag=None, server_ms=server_ms, received_at=received_at)


def _server_ms(date: str | None) -> float:
    """The server's clock by its `Date`, which counts whole seconds, so half of one is added; without one,
    our own clock."""
    if date is not None:
        try:
            return (parsedate_to_datetime(date).timestamp() + 0.5) * 1000
        except (TypeError, ValueError):
            pass
    return time.time() * 1000

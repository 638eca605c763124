"""Asks the server for a scope's configuration, and for whether it changed."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime

import httpx

from llm_auto_optimizer import _calls as calls
from llm_auto_optimizer._config import ScopeAnswer, parse_scope_answer
from llm_auto_optimizer._config_cache import ScopeKey
from llm_auto_optimizer._request import decode
from llm_auto_optimizer._transport import Transport

_NOT_MODIFIED = 304


class ConfigSource:
    """Reads under this instance's own unit, which keeps the answer, and so its ETag, the same between
    changes; the units of single calls are assigned from the rollout that the answer carries."""

    def __init__(self, transport: Transport, *, instance_id: str) -> None:
        self._transport = transport
        self._instance_id = instance_id

    def first(self, scope: ScopeKey) -> ScopeAnswer:
        """The answer, tried as often as any call."""
        request = calls.config(scope.service, scope.endpoint, self._instance_id)
        return self._transport.call_for(request, _parse)

    def again(self, scope: ScopeKey, known: ScopeAnswer) -> ScopeAnswer | None:
        """The answer now, tried once; None where the server says that it has not changed."""
        request = calls.config(scope.service, scope.endpoint, self._instance_id, known.etag)
        response = self._transport.send(request)
        return None if response.status_code == _NOT_MODIFIED else _parse(response)


def _parse(response: httpx.Response) -> ScopeAnswer:
    received_at = time.monotonic()
    return parse_scope_answer(
        decode(response),
        etag=response.headers.get("ETag"),
        server_ms=_server_ms(response.headers.get("Date")),
        received_at=received_at,
    )


def _server_ms(date: str | None) -> float:
    """The server's clock by its `Date`, which counts whole seconds, so half of one is added; without one,
    our own clock."""
    if date is not None:
        try:
            return (parsedate_to_datetime(date).timestamp() + 0.5) * 1000
        except (TypeError, ValueError):
            pass
    return time.time() * 1000

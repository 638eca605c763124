"""The configurations that a call context (a thread's or task's) was handed last.

Context variables make this right for threads and for asyncio alike: what one request was given is never
taken for another's.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar

from llm_auto_optimizer._config import Config


class HandedOut:
    """Per service, the last configuration that the client gave in this call context."""

    def __init__(self) -> None:
        self._by_service: ContextVar[Mapping[str | None, Config]] = ContextVar("optimizer_configs")

    def remember(self, service: str | None, config: Config) -> None:
        """Notes what was given for `service`, None being the global scope."""
        known = self._by_service.get({})
        if known.get(service) is not config:
            self._by_service.set({**known, service: config})

    def last(self, service: str | None) -> Config | None:
        """What was given for `service`, else for the global scope, which a service may inherit."""
        known = self._by_service.get({})
        return known.get(service) or known.get(None)

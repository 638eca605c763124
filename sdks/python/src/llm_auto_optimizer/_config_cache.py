"""Keeps each scope's answer at hand, so that a configuration for every call costs no request."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from llm_auto_optimizer._config import Config, ScopeAnswer
from llm_auto_optimizer._errors import OptimizerError

logger = logging.getLogger("llm_auto_optimizer")

_MAX_SCOPES = 1_000
_MAX_BACKOFF = 30.0
_IDLE_INTERVALS = 10


class ScopeKey(NamedTuple):
    """Whose configuration: a service's, one of its endpoints', or with neither the global one."""

    service: str | None
    endpoint: str | None


class Source(Protocol):
    """Where answers come from. Both ways raise `OptimizerError`."""

    def first(self, scope: ScopeKey) -> ScopeAnswer:
        """The answer, tried as often as any call."""

    def again(self, scope: ScopeKey, known: ScopeAnswer) -> ScopeAnswer | None:
        """The answer now, tried once; None: still the one known."""


@dataclass
class _Entry:
    answer: ScopeAnswer
    checked_at: float
    due: float
    failures: int = 0
    refreshing: bool = False


class ConfigCache:
    """The life of an entry: fetched by the first call that needs it, then served as it is for
    `refresh_interval` seconds. After that a call is still answered at once, while a thread asks the server
    whether anything changed. Only after ten idle intervals does a call wait for that. When the server does
    not answer, the last answer holds, and the next tries come at growing intervals.
    """

    def __init__(self, source: Source, *, refresh_interval: float) -> None:
        self._source = source
        self._interval = refresh_interval
        self._entries: dict[ScopeKey, _Entry] = {}
        self._lock = threading.Lock()

    def draw(self, scope: ScopeKey, unit: str | None) -> Config:
        """The configuration of this scope and unit.

        Raises:
            OptimizerError: the scope was never fetched, and cannot be now.
        """
        entry = self._entries.get(scope) or self._first(scope)
        now = time.monotonic()
        if now >= entry.due and self._claim(entry):
            if now - entry.checked_at > _IDLE_INTERVALS * self._interval:
                self._refresh(scope, entry)
            else:
                self._refresh_aside(scope, entry)
        return entry.answer.draw(unit, time.monotonic())

    def _first(self, scope: ScopeKey) -> _Entry:
        answer = self._source.first(scope)
        now = time.monotonic()
        with self._lock:
            if len(self._entries) >= _MAX_SCOPES:
                del self._entries[next(iter(self._entries))]
            return self._entries.setdefault(scope, _Entry(answer, checked_at=now, due=now + self._interval))

    def _claim(self, entry: _Entry) -> bool:
        """True for one caller at a time."""
        with self._lock:
            claimed = not entry.refreshing
            entry.refreshing = True
            return claimed

    def _refresh_aside(self, scope: ScopeKey, entry: _Entry) -> None:
        try:
            threading.Thread(
                target=self._refresh, args=(scope, entry), name="optimizer-config", daemon=True
            ).start()
        except RuntimeError:  # the interpreter is shutting down
            entry.refreshing = False

    def _refresh(self, scope: ScopeKey, entry: _Entry) -> None:
        try:
            changed = self._source.again(scope, entry.answer)
        except OptimizerError as error:
            self._postpone(entry)
            logger.warning("configuration of %s not refreshed, the last one holds: %s", tuple(scope), error)
        else:
            now = time.monotonic()
            entry.answer = changed or entry.answer
            entry.checked_at, entry.due, entry.failures = now, now + self._interval, 0
        finally:
            entry.refreshing = False

    def _postpone(self, entry: _Entry) -> None:
        entry.failures += 1
        entry.due = time.monotonic() + min(_MAX_BACKOFF, self._interval * 2.0**entry.failures)

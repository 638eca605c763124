"""Keeps each scope's answer at hand, so that a configuration for every call costs no request."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Protocol

from llm_auto_optimizer._config import Config, ScopeAnswer, ScopeKey
from llm_auto_optimizer._config_follower import ConfigFollower, Streams
from llm_auto_optimizer._config_store import ConfigStore
from llm_auto_optimizer._errors import OptimizerError

logger = logging.getLogger("llm_auto_optimizer")

_MAX_SCOPES = 1_000
_MAX_BACKOFF = 30.0

Callback = Callable[[Config], Any]


class Source(Streams, Protocol):
    """Where answers come from. Both reads are tried once, and raise `OptimizerError`."""

    def once(self, scope: ScopeKey) -> ScopeAnswer:
        """The answer now."""

    def again(self, scope: ScopeKey, known: ScopeAnswer) -> ScopeAnswer | None:
        """The answer now; None: still the one known."""


@dataclass
class _Entry:
    answer: ScopeAnswer
    due: float
    failures: int = 0
    refreshing: bool = False


@dataclass
class _Subscription:
    callback: Callback
    seen: str | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class ConfigCache:
    """The life of an entry: fetched by the first call that needs it, then told of changes by a stream.

    While there is no stream, a call is answered at once all the same, while a thread asks the server
    whether anything changed, at most every `refresh_interval` seconds. When the server does not answer, the
    last answer holds, and the next tries come at growing intervals. In place of an answer that never came
    there is the one kept in `store`, or else `default`, which are replaced as soon as the server answers.
    """

    def __init__(
        self,
        source: Source,
        *,
        instance_id: str,
        refresh_interval: float,
        stream: bool,
        store: ConfigStore | None,
        default: Config | None,
    ) -> None:
        self._source = source
        self._instance_id = instance_id
        self._interval = refresh_interval
        self._stream = stream
        self._store = store
        self._kept = {} if store is None else store.load()
        self._default = None if default is None else ScopeAnswer(default, rollout=None, etag=None)
        self._entries: dict[ScopeKey, _Entry] = {}
        self._subscriptions: dict[ScopeKey, list[_Subscription]] = {}
        self._lock = threading.Lock()
        self._follower = ConfigFollower(
            source, accept=self.accept, poll=self._poll, interval=max(refresh_interval, 0.05)
        )

    def draw(self, scope: ScopeKey, unit: str | None) -> Config | None:
        """The configuration of this scope and unit; None: it was never fetched. No I/O."""
        entry = self._entries.get(scope)
        if entry is None:
            return None
        now = time.monotonic()
        if now >= entry.due and not self._follower.is_live(scope) and self._claim(entry):
            self._refresh_aside(scope, entry)
        return entry.answer.draw(unit, now)

    def known(self, scope: ScopeKey, unit: str | None) -> Config | None:
        """As `draw`, with what was kept or given in place of an answer that never came."""
        config = self.draw(scope, unit)
        fallback = self.fallback(scope) if config is None else None
        return config if fallback is None else fallback.draw(unit, time.monotonic())

    def of_instance(self, scope: ScopeKey) -> Config | None:
        """As `known`, for what has no call to it."""
        return self.known(scope, self._instance_id)

    def fallback(self, scope: ScopeKey) -> ScopeAnswer | None:
        """What is served where no answer ever came."""
        return self._kept.get(scope) or self._default

    def accept(self, scope: ScopeKey, answer: ScopeAnswer) -> None:
        """Takes the server's answer, keeps it, and tells whom it concerns."""
        self._enter(scope, answer, due=time.monotonic() + self._interval, failures=0)
        kept = self._kept.get(scope)
        if self._store is not None and (kept is None or kept.body != answer.body):
            self._kept[scope] = answer
            self._store.save(scope, answer.body)
        self._tell(scope)
        if self._stream:
            self._follower.follow(scope)

    def fall_back(self, scope: ScopeKey, error: OptimizerError) -> None:
        """Takes what there is in place of an answer that did not come.

        Raises:
            OptimizerError: `error`, where there is nothing.
        """
        fallback = self.fallback(scope)
        if fallback is None:
            raise error
        logger.warning("configuration of %s not fetched, %s holds: %s", tuple(scope), fallback.config, error)
        self._enter(scope, fallback, due=time.monotonic() + self._backoff(1), failures=1)
        if self._stream:
            self._follower.follow(scope)

    def subscribe(self, scope: ScopeKey, callback: Callback) -> Callable[[], None]:
        """Calls `callback` with each configuration that follows the one known; gives what ends that."""
        known = self.draw(scope, self._instance_id)
        subscription = _Subscription(callback, None if known is None else known.version)
        with self._lock:
            self._subscriptions.setdefault(scope, []).append(subscription)
        self._follower.follow(scope)

        def unsubscribe() -> None:
            with self._lock:
                if subscription in self._subscriptions[scope]:
                    self._subscriptions[scope].remove(subscription)

        return unsubscribe

    def close(self) -> None:
        """Ends the streams. What is known is still served."""
        self._follower.close()

    def _enter(self, scope: ScopeKey, answer: ScopeAnswer, *, due: float, failures: int) -> None:
        with self._lock:
            entry = self._entries.get(scope)
            if entry is not None:
                entry.answer, entry.due, entry.failures = answer, due, failures
                return
            if len(self._entries) >= _MAX_SCOPES:
                del self._entries[next(iter(self._entries))]
            self._entries[scope] = _Entry(answer, due, failures)

    def _tell(self, scope: ScopeKey) -> None:
        for subscription in list(self._subscriptions.get(scope, ())):
            with subscription.lock:
                config = self.draw(scope, self._instance_id)
                if config is None or config.version == subscription.seen:
                    continue
                subscription.seen = config.version
                try:
                    subscription.callback(config)
                except Exception:
                    logger.exception("a callback of subscribe_config_updates failed")

    def _claim(self, entry: _Entry) -> bool:
        """True for one caller at a time."""
        with self._lock:
            claimed = not entry.refreshing
            entry.refreshing = True
            return claimed

    def _poll(self, scope: ScopeKey) -> None:
        """For a scope that somebody waits for and no stream tells of."""
        if not self._subscriptions.get(scope):
            return
        entry = self._entries.get(scope)
        if entry is None:
            with contextlib.suppress(OptimizerError):
                self.accept(scope, self._source.once(scope))
        elif time.monotonic() >= entry.due and self._claim(entry):
            self._refresh(scope, entry)
        self._tell(scope)

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
            entry.failures += 1
            entry.due = time.monotonic() + self._backoff(entry.failures)
            logger.warning("configuration of %s not refreshed, the last one holds: %s", tuple(scope), error)
        else:
            self.accept(scope, changed or entry.answer)
        finally:
            entry.refreshing = False

    def _backoff(self, failures: int) -> float:
        return min(_MAX_BACKOFF, self._interval * 2.0 ** min(failures, 30))

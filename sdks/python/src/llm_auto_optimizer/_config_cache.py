"""Keeps each scope's answer at hand, so that a configuration for every call costs no request."""

from __future__ import annotations

import copy
import logging
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Protocol

from llm_auto_optimizer._config import Config, ScopeAnswer, ScopeKey
from llm_auto_optimizer._config_follower import ConfigFollower, Streams
from llm_auto_optimizer._config_store import ConfigStore
from llm_auto_optimizer._errors import OptimizerError, refused

logger = logging.getLogger("llm_auto_optimizer")

_MAX_SCOPES = 100

Callback = Callable[[Config], Any]


class Source(Streams, Protocol):
    """Where answers come from. Both reads are tried once, and raise `OptimizerError`."""

    def once(self, scope: ScopeKey) -> ScopeAnswer:
        """The answer now."""

    def again(self, scope: ScopeKey, known: ScopeAnswer) -> ScopeAnswer | None:
        """The answer now; None: still the one known."""


@dataclass
class _Entry:
    """A scope. `failure` is the last try's, where that brought nothing; `used` is when it was asked for."""

    answer: ScopeAnswer | None = None
    failure: OptimizerError | None = None
    used: float = 0.0
    lapse: threading.Timer | None = None


@dataclass
class _Subscription:
    callback: Callback
    seen: str | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class ConfigCache:
    """The life of an entry: fetched by the first call that needs it, then kept fresh by a thread.

    When the server does not answer, the last answer holds. In place of an answer that never came there is the
    one kept in `store`, or else `default`, which are replaced as soon as the server answers. Past 100 scopes
    the longest unused that nobody subscribes to gives way.
    """

    def __init__(
        self,
        source: Source,
        *,
        instance_id: str,
        poll_interval: float,
        stream: bool,
        store: ConfigStore | None,
        default: Config | None,
    ) -> None:
        self._source = source
        self._instance_id = instance_id
        self._store = store
        self._kept = {} if store is None else store.load()
        self._default = default
        self._entries: dict[ScopeKey, _Entry] = {}
        self._subscriptions: dict[ScopeKey, list[_Subscription]] = {}
        self._lock = threading.Lock()
        self._follower = ConfigFollower(
            source, accept=self.accept, poll=self._poll, interval=poll_interval, stream=stream
        )

    def draw(self, scope: ScopeKey, unit: str | None) -> Config | None:
        """The configuration of this scope and unit; None: it was never fetched. No I/O."""
        entry = self._entries.get(scope)
        if entry is None or entry.answer is None:
            return None
        now = entry.used = time.monotonic()
        self._follower.follow(scope, fresh=False)  # again, in a forked child
        return entry.answer.draw(unit, now)

    def known(self, scope: ScopeKey, unit: str | None) -> Config | None:
        """As `draw`, with what was kept or given in place of an answer that never came."""
        return self.draw(scope, unit) or self.fallback(scope)

    def of_instance(self, scope: ScopeKey) -> Config | None:
        """As `known`, for what has no call to it."""
        return self.known(scope, self._instance_id)

    def fallback(self, scope: ScopeKey) -> Config | None:
        """What is served where no answer ever came."""
        return self._kept.get(scope) or self._default

    def failure(self, scope: ScopeKey) -> OptimizerError | None:
        """Why there is nothing to serve, where asking again need not be waited for: that goes on in the
        background, unless it was the API that refused."""
        entry = self._entries.get(scope)
        if entry is None or entry.failure is None or refused(entry.failure):
            return None
        return copy.copy(entry.failure)

    def accept(self, scope: ScopeKey, answer: ScopeAnswer) -> None:
        """Takes the server's answer, keeps it, and tells whom it concerns."""
        entry = self._entry(scope)
        entry.answer, entry.failure = answer, None
        lasting = answer.lasting
        if self._store is not None and self._kept.get(scope) != lasting:
            self._kept[scope] = lasting
            self._store.save(scope, lasting)
        self._tell(scope)
        self._await_lapse(scope, entry)
        self._follower.follow(scope, fresh=True)

    def fall_back(self, scope: ScopeKey, error: OptimizerError) -> None:
        """Takes what there is in place of an answer that did not come.

        Raises:
            OptimizerError: `error`, where there is nothing.
        """
        fallback = self.fallback(scope)
        if fallback is None:
            if not refused(error):
                self._entry(scope).failure = error
                self._follower.follow(scope, fresh=True)
            raise error
        logger.warning("configuration of %s not fetched, %s holds: %s", tuple(scope), fallback, error)
        self._entry(scope).answer = ScopeAnswer(fallback, rollout=None, etag=None)
        self._follower.follow(scope, fresh=True)

    def subscribe(self, scope: ScopeKey, callback: Callback) -> Callable[[], None]:
        """Calls `callback` with the configuration as soon as it is known, and with each that follows; gives
        what ends that."""
        subscription = _Subscription(callback)
        with self._lock:
            self._subscriptions.setdefault(scope, []).append(subscription)
        entry = self._entry(scope)
        self._follower.follow(scope, fresh=entry.answer is not None)
        if entry.answer is not None:
            self._later(0, scope)
            self._await_lapse(scope, entry)

        def unsubscribe() -> None:
            with self._lock:
                if subscription in self._subscriptions[scope]:
                    self._subscriptions[scope].remove(subscription)

        return unsubscribe

    def close(self) -> None:
        """Ends the threads. What is known is still served."""
        self._follower.close()
        for entry in list(self._entries.values()):
            if entry.lapse is not None:
                entry.lapse.cancel()

    def _entry(self, scope: ScopeKey) -> _Entry:
        with self._lock:
            entry = self._entries.get(scope)
            evicted = None
            if entry is None:
                evicted = self._evict() if len(self._entries) >= _MAX_SCOPES else None
                entry = self._entries[scope] = _Entry(used=time.monotonic())
        if evicted is not None:
            self._follower.leave(evicted)
        return entry

    def _evict(self) -> ScopeKey | None:
        """Forgets the longest unused scope that nobody subscribes to, and names it."""
        free = [scope for scope in self._entries if not self._subscriptions.get(scope)]
        if not free:
            return None
        oldest = min(free, key=lambda scope: self._entries[scope].used)
        del self._entries[oldest]
        return oldest

    def _await_lapse(self, scope: ScopeKey, entry: _Entry) -> None:
        """Tells subscribers once nobody watches the canary any more."""
        if entry.lapse is not None:
            entry.lapse.cancel()
        rollout = None if entry.answer is None else entry.answer.rollout
        if rollout is not None and self._subscriptions.get(scope):
            left = max(0.0, rollout.watched_until - time.monotonic())
            entry.lapse = self._later(min(left, threading.TIMEOUT_MAX), scope)

    def _later(self, seconds: float, scope: ScopeKey) -> threading.Timer:
        timer = threading.Timer(seconds, self._tell, args=(scope,))
        timer.daemon = True
        timer.start()
        return timer

    def _tell(self, scope: ScopeKey) -> None:
        for subscription in list(self._subscriptions.get(scope, ())):
            with subscription.lock:
                entry = self._entries.get(scope)
                answer = None if entry is None else entry.answer
                config = None if answer is None else answer.draw(self._instance_id, time.monotonic())
                if config is None or config.version == subscription.seen:
                    continue
                subscription.seen = config.version
                try:
                    subscription.callback(config)
                except Exception:
                    logger.exception("a callback of subscribe_config_updates failed")

    def _poll(self, scope: ScopeKey) -> OptimizerError | None:
        """Asks once whether anything changed; gives what kept the server from answering."""
        entry = self._entry(scope)
        try:
            known = entry.answer
            changed = self._source.once(scope) if known is None else self._source.again(scope, known)
        except OptimizerError as error:
            if entry.answer is None:
                entry.failure = error
            logger.warning("configuration of %s not refreshed, the last one holds: %s", tuple(scope), error)
            return error
        if changed is not None:
            self.accept(scope, changed)
        return None

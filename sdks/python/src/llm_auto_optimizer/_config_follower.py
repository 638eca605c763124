"""Keeps configurations fresh by the server's stream, and by polling while there is none."""

from __future__ import annotations

import logging
import random
import threading
from typing import Callable, Protocol

from llm_auto_optimizer._config import ScopeAnswer, ScopeKey
from llm_auto_optimizer._errors import OptimizerError

logger = logging.getLogger("llm_auto_optimizer")

_MAX_STREAMS = 16
_FIRST_PAUSE = 1.0
_MAX_PAUSE = 30.0
_JOIN = 1.0


class Streams(Protocol):
    """Where streams come from."""

    def follow(self, scope: ScopeKey, accept: Callable[[ScopeAnswer], None]) -> None:
        """Hands over the scope's answer and each that follows, until the stream ends.

        Raises:
            OptimizerError: there is no stream, or it broke.
        """

    def interrupt(self) -> None:
        """Ends all streams."""


class ConfigFollower:
    """One daemon thread per scope, for at most 16 scopes.

    A stream that ends is opened again, after a pause that doubles from 1 s to 30 s with every failure and
    of which a random half is taken away. `poll` is called every `interval` seconds in such a pause.
    """

    def __init__(
        self,
        streams: Streams,
        *,
        accept: Callable[[ScopeKey, ScopeAnswer], None],
        poll: Callable[[ScopeKey], None],
        interval: float,
    ) -> None:
        self._streams = streams
        self._accept = accept
        self._poll = poll
        self._interval = interval
        self._threads: dict[ScopeKey, threading.Thread] = {}
        self._live: set[ScopeKey] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def follow(self, scope: ScopeKey) -> None:
        """Begins to follow `scope`, unless it is followed, or there are too many."""
        with self._lock:
            thread = self._threads.get(scope)
            known = thread is not None and thread.is_alive()
            if known or self._closed.is_set() or (thread is None and len(self._threads) >= _MAX_STREAMS):
                return
            self._live.discard(scope)
            thread = threading.Thread(target=self._run, args=(scope,), name="optimizer-stream", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter is shutting down
                return
            self._threads[scope] = thread

    def is_live(self, scope: ScopeKey) -> bool:
        """Whether a stream tells of changes, so that nobody need ask. Not so in a forked child."""
        return scope in self._live and self._threads[scope].is_alive()

    def close(self) -> None:
        """Ends the streams."""
        self._closed.set()
        self._streams.interrupt()
        for thread in list(self._threads.values()):
            if thread is not threading.current_thread():
                thread.join(_JOIN)

    def _run(self, scope: ScopeKey) -> None:
        pause = _FIRST_PAUSE
        while not self._closed.is_set():
            if self._follow_once(scope):
                pause = _FIRST_PAUSE
            self._wait(scope, pause * random.uniform(0.5, 1.0))
            pause = min(_MAX_PAUSE, pause * 2)

    def _follow_once(self, scope: ScopeKey) -> bool:
        """Whether there was anything to accept before the stream ended."""

        def accept(answer: ScopeAnswer) -> None:
            self._accept(scope, answer)
            self._live.add(scope)

        try:
            self._streams.follow(scope, accept)
        except OptimizerError as error:
            if not self._closed.is_set():
                logger.debug("no stream of %s, it is polled instead: %s", tuple(scope), error)
        finally:
            was_live = scope in self._live
            self._live.discard(scope)
        return was_live

    def _wait(self, scope: ScopeKey, seconds: float) -> None:
        while seconds > 0 and not self._closed.is_set():
            self._poll(scope)
            self._closed.wait(min(seconds, self._interval))
            seconds -= self._interval

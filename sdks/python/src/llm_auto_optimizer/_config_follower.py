"""Keeps configurations fresh by the server's stream, and by polling while there is none."""

from __future__ import annotations

import logging
import random
import threading
from typing import Callable, Protocol

from llm_auto_optimizer._config import ScopeAnswer, ScopeKey
from llm_auto_optimizer._errors import OptimizerError

logger = logging.getLogger("llm_auto_optimizer")

_RECONNECT = 1.0
_FIRST_BACKOFF = 1.0
_MAX_BACKOFF = 30.0
_JOIN = 1.0


class Streams(Protocol):
    """Where streams come from."""

    def follow(
        self, scope: ScopeKey, accept: Callable[[ScopeAnswer], None], wanted: Callable[[], bool]
    ) -> None:
        """Hands over the scope's answer and each that follows, until the stream ends or is not wanted.

        Raises:
            OptimizerError: there is no stream, or it broke.
        """

    def interrupt(self, scope: ScopeKey) -> None:
        """Ends the scope's stream."""


class _Following:
    """A scope's thread."""

    def __init__(self) -> None:
        self.thread: threading.Thread | None = None
        self.ended = False
        self.awake = threading.Event()  # set to cut its pause short

    def end(self) -> None:
        self.ended = True
        self.awake.set()

    @property
    def is_alive(self) -> bool:
        return self.thread is not None and self.thread.is_alive()


class ConfigFollower:
    """One daemon thread per scope: it follows the stream, and polls where that ended, or where there is none.

    Polls come every `interval` seconds; while the server does not answer, after a pause that doubles from 1 s
    to 30 s, at most `interval`, and of which a random half is taken away.
    """

    def __init__(
        self,
        streams: Streams,
        *,
        accept: Callable[[ScopeKey, ScopeAnswer], None],
        poll: Callable[[ScopeKey], OptimizerError | None],
        interval: float,
        stream: bool,
    ) -> None:
        self._streams = streams
        self._accept = accept
        self._poll = poll
        self._interval = interval
        self._stream = stream
        self._followed: dict[ScopeKey, _Following] = {}
        self._lock = threading.Lock()
        self._closed = False

    def follow(self, scope: ScopeKey, *, fresh: bool) -> None:
        """Begins to follow `scope`, unless it is followed. What is fresh need not be polled at once."""
        followed = self._followed.get(scope)
        if followed is not None and followed.is_alive:  # not so in a forked child
            return
        with self._lock:
            followed = self._followed.get(scope)
            if self._closed or (followed is not None and followed.is_alive):
                return
            following = _Following()
            following.thread = threading.Thread(
                target=self._run, args=(scope, following, fresh), name="optimizer-config", daemon=True
            )
            try:
                following.thread.start()
            except RuntimeError:  # the interpreter is shutting down
                return
            self._followed[scope] = following

    def hurry(self, scope: ScopeKey) -> None:
        """Has the server asked now rather than after the pause, if one is made."""
        following = self._followed.get(scope)
        if following is not None:
            following.awake.set()

    def leave(self, scope: ScopeKey) -> None:
        """Ends the following of `scope`, without waiting for that."""
        with self._lock:
            following = self._followed.pop(scope, None)
        if following is not None:
            following.end()
            self._streams.interrupt(scope)

    def close(self) -> None:
        """Ends all of them."""
        with self._lock:
            self._closed = True
            followed = dict(self._followed)
        for scope, following in followed.items():
            following.end()
            self._streams.interrupt(scope)
        for following in followed.values():
            if following.thread is not None and following.thread is not threading.current_thread():
                following.thread.join(_JOIN)

    def _run(self, scope: ScopeKey, following: _Following, fresh: bool) -> None:
        failures = 0
        while not following.ended:
            following.awake.clear()
            streamed = self._stream and self._follow_once(scope, following)
            if following.ended:
                return
            error = None if fresh and not streamed else self._poll(scope)
            fresh = False
            failures = 0 if streamed or error is None else failures + 1
            if failures > 0:
                backoff = min(self._interval, _MAX_BACKOFF, _FIRST_BACKOFF * 2.0 ** min(failures - 1, 30))
                pause = backoff * random.uniform(0.5, 1.0)
            else:
                pause = _RECONNECT * random.uniform(0.5, 1.0) if streamed else self._interval
            asked = 0.0 if error is None or streamed else error.retry_after or 0.0
            following.awake.wait(max(pause, asked))

    def _follow_once(self, scope: ScopeKey, following: _Following) -> bool:
        """Whether there was anything to accept before the stream ended."""
        brought = False

        def accept(answer: ScopeAnswer) -> None:
            nonlocal brought
            brought = True
            self._accept(scope, answer)

        try:
            self._streams.follow(scope, accept, lambda: not following.ended)
        except OptimizerError as error:
            if not following.ended:
                logger.debug("no stream of %s, it is polled instead: %s", tuple(scope), error)
        return brought

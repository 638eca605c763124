"""Configurations at hand: kept fresh by the server's stream or by polling, and on disk in case it is away."""

import asyncio
import contextlib
import json
import logging
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from llm_auto_optimizer import InvalidRequestError, NotFoundError, OptimizerError, UnexpectedAnswerError
from llm_auto_optimizer._config import ScopeAnswer, ScopeKey, parse_scope_answer
from llm_auto_optimizer._config_follower import ConfigFollower
from llm_auto_optimizer._errors import refused

from api.configs.rendering import Rendered
from api.sidecar.arms import Arms, as_current, as_service, bodies_of
from api.sidecar.spool import Spool
from api.sidecar.upstream import Upstream
from api.sidecar.writer import Writer
from domain.errors import InvalidRequest, NotFound, ServiceUnavailable
from storage.broadcast import Broadcast

POLL_SECONDS = 10.0
FIRST_SECONDS = 5.0
"""How long the first who ask for a scope wait for the server."""
AGAIN_SECONDS, AGAIN_WAIT_SECONDS = 1.0, 2.0
"""While there is nothing to serve: how long after a failure the server is asked again, and waited for."""
START_SECONDS = 2.0
"""How long a start waits for the server to renew what was kept."""
CLOSE_SECONDS = 2.0
MAX_SCOPES = 100

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Served:
    """A scope's answers, as a service's and as `/config/current`, each where it is asked for as that.

    `lasting` holds whether or not anybody watches a canary.
    """

    service: Arms | None
    current: Arms | None
    lasting: dict[str, Any]


@dataclass(slots=True)
class _Entry:
    """A scope. `answer` is the server's last, None before the first; `failure` why the last try brought none.

    `served` may be of an earlier process. `used` is when somebody asked last, `failed_at` when the last try
    ended and `waits_until` how long one waits for a first answer, in seconds of the monotonic clock, 0 where
    that never was.
    """

    answer: ScopeAnswer | None = None
    served: _Served | None = None
    failure: OptimizerError | None = None
    failed_at: float = 0.0
    waits_until: float = 0.0
    used: float = 0.0
    streams: int = 0
    settled: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class Read:
    """What is asked for: a scope, as `/config/current` or as a service's answer, for a unit or for none."""

    scope: ScopeKey
    as_current: bool
    unit: str | None


class Configs:
    """Answers from memory. The first who ask for a scope wait for the server, up to five seconds.

    When the server does not answer, the last answer holds, of this process or of an earlier one. Past 100
    scopes the one that nobody asked for longest gives way.
    """

    def __init__(self, upstream: Upstream, writer: Writer, *, server: str, service: str | None) -> None:
        self._upstream = upstream
        self._writer = writer
        self._server = server
        self._own = ScopeKey(service, None)
        self._entries: dict[ScopeKey, _Entry] = {}
        self._loop = asyncio.get_running_loop()
        self._follower = ConfigFollower(
            upstream, accept=self._accept, poll=self._poll, interval=POLL_SECONDS, stream=True
        )
        self.changed = Broadcast()

    async def start(self) -> None:
        """Take up what was kept, have it renewed, and follow what `/config/current` tells."""
        for service, endpoint, body in await self._writer.run(Spool.configs, self._server):
            scope = ScopeKey(service or None, endpoint or None)
            try:
                answer = parse_scope_answer(json.loads(body), etag=None, server_ms=0, received_at=0)
                served = self._served(scope, answer, None)
            except (ValueError, RecursionError, OptimizerError) as error:
                log.warning("a kept configuration is not used: %s", error)
            else:
                self._entry(scope).served = served
        self._entry(self._own)
        for scope in list(self._entries):
            self._follower.follow(scope, fresh=False)
        waiting = [asyncio.ensure_future(entry.settled.wait()) for entry in self._entries.values()]
        _, late = await asyncio.wait(waiting, timeout=START_SECONDS)
        for one in late:
            one.cancel()

    async def close(self) -> None:
        """Follow nothing any more."""
        ending = threading.Thread(target=self._follower.close, daemon=True)
        ending.start()
        await asyncio.to_thread(ending.join, CLOSE_SECONDS)

    def target(self, service: str | None, endpoint: str | None, unit: str | None) -> Read:
        """What is asked for; without a service, this sidecar's own."""
        if service is None:
            return Read(self._own, True, unit)
        return Read(ScopeKey(service, endpoint), False, unit)

    async def read(self, wanted: Read) -> Rendered:
        """The answer.

        Raises:
            NotFound, InvalidRequest: as the server says.
            ServiceUnavailable: the server has never told it.
        """
        entry = self._entry(wanted.scope)
        arms = _arms(entry, wanted)
        if arms is None:
            await self._first(wanted.scope, entry)
            arms = _arms(entry, wanted)
        if arms is None:
            raise _error(entry.failure)
        return arms.choose(wanted.unit)

    async def follow(self, wanted: Read, ended: asyncio.Event) -> AsyncIterator[Rendered]:
        """The answer, and again whenever it changes, until `ended` is set."""
        entry, known = self._entry(wanted.scope), ""
        entry.streams += 1
        try:
            while not ended.is_set():
                changed, arms = self.changed.next(), _arms(entry, wanted)
                if arms is not None:
                    rendered = arms.choose(wanted.unit)
                    if rendered.etag != known:
                        known = rendered.etag
                        yield rendered
                await _first_of(changed, ended, seconds=None if arms is None else arms.lapses_in)
        finally:
            entry.streams -= 1

    async def _first(self, scope: ScopeKey, entry: _Entry) -> None:
        now = time.monotonic()
        first = entry.waits_until == 0
        if first or (entry.failure is not None and now >= entry.failed_at + AGAIN_SECONDS):
            entry.waits_until = now + (FIRST_SECONDS if first else AGAIN_WAIT_SECONDS)
            if entry.failure is not None:
                # Not as late as the background would, which has nobody waiting.
                entry.failure = None
                entry.settled.clear()
                self._follower.hurry(scope)
        self._follower.follow(scope, fresh=False)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, entry.waits_until - now)):
                await entry.settled.wait()

    def _entry(self, scope: ScopeKey) -> _Entry:
        entry = self._entries.get(scope)
        if entry is None:
            if len(self._entries) >= MAX_SCOPES:
                self._evict()
            entry = self._entries[scope] = _Entry()
        entry.used = time.monotonic()
        return entry

    def _evict(self) -> None:
        free = [scope for scope, entry in self._entries.items() if scope != self._own and not entry.streams]
        if free:
            oldest = min(free, key=lambda scope: self._entries[scope].used)
            del self._entries[oldest]
            self._follower.leave(oldest)
            self._writer.later(Spool.forget_config, self._server, *_kept_as(oldest))

    def _served(self, scope: ScopeKey, answer: ScopeAnswer, other: ScopeAnswer | None) -> _Served:
        """What is served of what the server says to both arms.

        Raises:
            UnexpectedAnswerError: it cannot be.
        """
        try:
            bodies = bodies_of(answer, other)
            return _Served(
                None if scope.service is None else as_service(answer, bodies),
                as_current(answer, bodies) if scope == self._own else None,
                bodies.lasting,
            )
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise UnexpectedAnswerError(f"not to be served: {error!r}", body=answer.body) from error

    # By the follower's threads

    def _poll(self, scope: ScopeKey) -> OptimizerError | None:
        entry = self._entries.get(scope)
        try:
            answer = self._upstream.now(scope, None if entry is None else entry.answer)
            if answer is not None:
                self._accept(scope, answer)
        except OptimizerError as error:
            self._on_loop(self._take_failure, scope, error)
            return error
        return None

    def _accept(self, scope: ScopeKey, answer: ScopeAnswer) -> None:
        other = self._upstream.other_arm(scope, answer)
        if scope == self._own and scope.service is not None:
            answer = self._upstream.applied(answer)
            other = None if other is None else self._upstream.applied(other)
        self._on_loop(self._take, scope, answer, self._served(scope, answer, other))

    def _on_loop(self, work: Any, *arguments: Any) -> None:
        # The loop may have ended, and a thread be late.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(work, *arguments)

    # On the loop again

    def _take(self, scope: ScopeKey, answer: ScopeAnswer, served: _Served) -> None:
        entry = self._entries.get(scope)
        if entry is None:
            return
        if entry.served is None or entry.served.lasting != served.lasting:
            self._writer.later(Spool.save_config, self._server, *_kept_as(scope), served.lasting)
        entry.answer, entry.served, entry.failure = answer, served, None
        entry.settled.set()
        self.changed.tell()

    def _take_failure(self, scope: ScopeKey, error: OptimizerError) -> None:
        entry = self._entries.get(scope)
        if entry is None:
            return
        if entry.served is not None:
            if entry.failure is None:
                log.warning("configuration of %s not renewed, the last one holds: %s", _name(scope), error)
        elif isinstance(error, NotFoundError | InvalidRequestError):
            # Whoever asks next asks the server.
            del self._entries[scope]
            self._follower.leave(scope)
        entry.failure, entry.failed_at = error, time.monotonic()
        entry.settled.set()


async def _first_of(*events: asyncio.Event, seconds: float | None) -> None:
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waiting:
            one.cancel()


def _arms(entry: _Entry, wanted: Read) -> Arms | None:
    if entry.served is None:
        return None
    return entry.served.current if wanted.as_current else entry.served.service


def _kept_as(scope: ScopeKey) -> tuple[str, str]:
    return scope.service or "", scope.endpoint or ""


def _name(scope: ScopeKey) -> str:
    return ":".join(part for part in scope if part is not None) or "global"


def _error(failure: OptimizerError | None) -> NotFound | InvalidRequest | ServiceUnavailable:
    """Why there is nothing to serve."""
    if isinstance(failure, NotFoundError):
        return NotFound(failure.message)
    if isinstance(failure, InvalidRequestError):
        return InvalidRequest(failure.message)
    if failure is None:
        return ServiceUnavailable("the server has not answered yet", retry_after=1)
    whose = "refuses the sidecar's key" if refused(failure) else "gives no configuration"
    return ServiceUnavailable(f"the server {whose}: {failure}", retry_after=1)

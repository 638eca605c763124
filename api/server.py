"""What the endpoints work with, made once per application."""

import asyncio
import contextlib
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Request

from api.auth import Authenticator
from api.configs.reader import ConfigReader
from api.events.feed import EventFeed
from api.instruments import Instruments
from api.rate_limits import RateLimiter
from api.system.health import Health
from api.system.status import StatusReader
from api.temporal import Temporal
from api.turns import Turns
from domain.errors import DatabaseError
from domain.label_limits import LabelLimits
from storage.answer_cache import AnswerCache
from storage.database import Database
from storage.intake import Intake
from storage.snapshot import LiveSnapshot


@dataclass(frozen=True, slots=True)
class Background:
    """Work that goes on after an answer was given."""

    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Start it; it must see to its own errors."""
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def close(self, seconds: float) -> None:
        """Let what runs come to its end, for so long."""
        if self.tasks:
            _, late = await asyncio.wait(self.tasks, timeout=seconds)
            for task in late:
                task.cancel()


@dataclass(frozen=True, slots=True)
class Server:
    """`step_seconds` is the default length of a rollout's step. `draining` is set when streams must end.

    `webhooks_allow_private`: a webhook may name a host that is not in the public internet. `max_body_bytes`
    is what a body may have, unpacked; one at a time of those that take long is decoded, by `decoding`.
    """

    database: Database
    intake: Intake
    snapshot: LiveSnapshot
    labels: LabelLimits
    configs: ConfigReader
    authenticator: Authenticator
    limiter: RateLimiter
    temporal: Temporal
    health: Health
    status: StatusReader
    events: EventFeed
    answers: AnswerCache
    instruments: Instruments
    step_seconds: float
    webhooks_allow_private: bool
    max_body_bytes: int
    turns: Turns = field(default_factory=Turns)
    decoding: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    background: Background = field(default_factory=Background)

    def drain(self) -> None:
        """Have streams, which never would, end, and everybody who waits for a change look at that."""
        self.draining.set()
        self.snapshot.changed.tell()

    async def refresh(self) -> None:
        """See at once what this process has just committed; without PostgreSQL, later."""
        with contextlib.suppress(DatabaseError):
            await self.snapshot.refresh()


# Not a plain function, which FastAPI would call in a thread each time.
async def _server(request: Request) -> Server:
    server: Server = request.state.server
    return server


ServerDep = Annotated[Server, Depends(_server)]

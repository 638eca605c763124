"""The spool as the event loop has it: one thread, and one transaction for all that wait."""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from api.sidecar.spool import Bounds, Outcome, Spool, Taken
from domain.errors import Conflict, OptimizerError, RateLimited, ServiceUnavailable
from domain.idempotency import Answer

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Counts:
    """Reports since the start.

    `refused` found no room and their callers were told; `rejected` are what the server did not take of what
    was delivered; `dropped` could never be delivered; of `uncertain` it will never be known.
    """

    accepted: int = 0
    refused: int = 0
    delivered: int = 0
    rejected: int = 0
    dropped: int = 0
    uncertain: int = 0


class Writer:
    """Takes batches, and answers each once it is on disk. Use `open`."""

    def __init__(self, spool: Spool, thread: ThreadPoolExecutor) -> None:
        self._spool = spool
        self.bounds = spool.bounds
        self._thread = thread
        self._waiting: list[tuple[Taken, asyncio.Future[Outcome]]] = []
        self._writing: asyncio.Task[None] | None = None
        self.counts = Counts()
        self.arrived = asyncio.Event()
        """Set when something was taken; whoever waits for that clears it."""
        self.failure: str | None = None
        """Why the last write failed, None where it did not."""

    @classmethod
    async def open(cls, path: Path, bounds: Bounds) -> "Writer":
        """Open the spool. One that is damaged is set aside.

        Raises:
            InUse, sqlite3.Error, OSError: it cannot be had.
        """
        thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        spool = await asyncio.get_running_loop().run_in_executor(thread, _open, path, bounds)
        return cls(spool, thread)

    @property
    def waiting(self) -> tuple[int, int]:
        """Items and bytes that wait for the server."""
        return self._spool.items, self._spool.bytes

    async def take(self, batch: Taken) -> Answer:
        """Keep a batch; gives its answer, or the first one given to the same claim.

        Raises:
            RateLimited: too much waits already.
            ServiceUnavailable: the disk takes nothing.
            Conflict: the claim's key was used for another request.
        """
        if not batch.chunks and batch.claim is None:
            return batch.answer
        taken: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((batch, taken))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        outcome = await taken
        if isinstance(outcome, OptimizerError):
            raise outcome
        return outcome

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """Have the thread do something, by a function that takes the spool first."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, work, self._spool, *arguments)

    def later(self, work: Callable[..., None], *arguments: Any) -> None:
        """The same without waiting. What the disk does not take is let go."""

        def attempt() -> None:
            try:
                work(self._spool, *arguments)
            except sqlite3.Error as error:
                log.warning("the spool cannot be written: %s", error)

        self._thread.submit(attempt)

    async def close(self) -> None:
        """Finish what waits, and close the spool."""
        if self._writing is not None:
            await self._writing
        await self.run(Spool.close)
        self._thread.shutdown()

    async def _write(self) -> None:
        """Write all that waits, and what comes meanwhile."""
        while self._waiting:
            group, self._waiting = self._waiting, []
            batches = [batch for batch, _ in group]
            try:
                outcomes = await self.run(Spool.take, batches)
            except sqlite3.Error as error:
                self._fail(str(error))
                unavailable = f"the disk takes no reports: {error}"
                outcomes = [ServiceUnavailable(unavailable, retry_after=1) for _ in batches]
            else:
                self.failure = None
            for (batch, taken), outcome in zip(group, outcomes, strict=True):
                self._count(batch, outcome)
                if not taken.done():
                    taken.set_result(outcome)
        self._writing = None

    def _fail(self, reason: str) -> None:
        if self.failure is None:
            log.error("the spool cannot be written: %s", reason)
        self.failure = reason

    def _count(self, batch: Taken, outcome: Outcome) -> None:
        if outcome is batch.answer:
            self.counts.accepted += batch.items
            self.arrived.set()
        elif not isinstance(outcome, Answer | Conflict):
            if isinstance(outcome, RateLimited) and not self.counts.refused:
                log.warning("the spool is full: %s", outcome.message)
            self.counts.refused += batch.items


def _open(path: Path, bounds: Bounds) -> Spool:
    try:
        return Spool(path, bounds)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        aside = path.with_name(f"{path.name}.broken-{time.time_ns() // 1_000_000}")
        path.rename(aside)
        log_file = path.with_name(f"{path.name}-wal")
        if log_file.exists():
            log_file.rename(f"{aside}-wal")
        log.error("%s is damaged (%s): it is kept as %s", path, error, aside)
        return Spool(path, bounds)

"""The one intake of metrics and evaluations, whatever the way they came by: group commit by one writer."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import asyncpg

from domain.errors import (
    Conflict,
    DatabaseError,
    InternalError,
    OptimizerError,
    RateLimited,
    ServiceUnavailable,
)
from domain.reports import MetricReport, QualityEvaluation
from storage import samples
from storage.database import Database, unreachable_as_database_error
from storage.idempotency import Answer, Claim, claim_in_copy
from storage.partitions import ensure_partitions
from storage.samples import PriceOverride, Row

ROWS_PER_COMMIT = 5_000
CAPACITY = 100_000
COMMIT_SECONDS = 20.0
RATE_SECONDS = 10

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class IntakeStats:
    """`buffered` reports wait; `rate` is committed reports per second; `last_flush` in ms, 0 for never."""

    buffered: int
    rate: float
    last_flush: int
    committed: int


@dataclass(slots=True, eq=False)
class _Batch:
    """A caller's rows, who wait for their commit together."""

    table: str
    rows: list[Row]
    services: frozenset[str]
    answer: Answer
    claim: Claim | None
    done: asyncio.Future[Answer] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def settle(self, outcome: Answer | OptimizerError) -> None:
        """Wake the caller, if it still waits."""
        if self.done.done():
            return
        if isinstance(outcome, Answer):
            self.done.set_result(outcome)
        else:
            self.done.set_exception(outcome)


class Intake:
    """Takes batches, and answers each once it is committed.

    One writer drains all that waits, up to 5,000 rows, into one transaction of COPY. `received_at` is the
    database's time just before the COPY: whoever reads closed intervals of arrival must leave a second.
    """

    def __init__(
        self, database: Database, *, override: PriceOverride | None = None, capacity: int = CAPACITY
    ) -> None:
        self._database = database
        self._override = override or _no_override
        self._capacity = capacity
        self._waiting: deque[_Batch] = deque()
        self._buffered = 0
        self._wake = asyncio.Event()
        self._closing = False
        self._writer: asyncio.Task[None] | None = None
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._known: set[str] = set()
        self._covered_until = 0
        self._recent: deque[tuple[float, int]] = deque()
        self._last_flush = 0
        self._committed = 0

    async def start(self) -> None:
        """Start the writer. PostgreSQL need not be there yet."""
        self._writer = asyncio.create_task(self._run(), name="intake-writer")

    async def close(self) -> None:
        """Take nothing more, write what waits, and stop."""
        self._closing = True
        self._wake.set()
        if self._writer is not None:
            await self._writer
        self._disconnect()

    @property
    def stats(self) -> IntakeStats:
        """Where the intake stands."""
        horizon = time.monotonic() - RATE_SECONDS
        recent = sum(count for at, count in self._recent if at > horizon)
        return IntakeStats(self._buffered, recent / RATE_SECONDS, self._last_flush, self._committed)

    async def metrics(
        self, reports: Sequence[MetricReport], answer: Answer, claim: Claim | None = None
    ) -> Answer:
        """Keep reports of calls. Gives `answer`, or the first one given to the same claim.

        Raises:
            RateLimited: too much waits already.
            Conflict: the claim's key was used for another request.
            DatabaseError: they were not kept, or it is not known whether they were.
        """
        services = frozenset(report.service for report in reports)
        rows = samples.metric_rows(reports, self._override)
        return await self._submit(_Batch("metrics", rows, services, answer, claim))

    async def quality(
        self, evaluations: Sequence[QualityEvaluation], answer: Answer, claim: Claim | None = None
    ) -> Answer:
        """Keep evaluations, as `metrics` does."""
        rows = samples.quality_rows(evaluations)
        return await self._submit(_Batch("quality", rows, frozenset(), answer, claim))

    async def _submit(self, batch: _Batch) -> Answer:
        if not batch.rows and batch.claim is None:
            return batch.answer
        if self._closing:
            raise ServiceUnavailable("the server is stopping", retry_after=1)
        if self._buffered + len(batch.rows) > self._capacity:
            raise RateLimited("more reports wait than can be written", retry_after=1)
        self._waiting.append(batch)
        self._buffered += len(batch.rows)
        self._wake.set()
        return await batch.done

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                batches = self._drain()
                try:
                    await self._write(batches)
                finally:
                    self._buffered -= sum(len(batch.rows) for batch in batches)
            if self._closing:
                return

    def _drain(self) -> list[_Batch]:
        batches = [self._waiting.popleft()]
        rows = len(batches[0].rows)
        while self._waiting and rows + len(self._waiting[0].rows) <= ROWS_PER_COMMIT:
            batches.append(self._waiting.popleft())
            rows += len(batches[-1].rows)
        return batches

    async def _write(self, batches: list[_Batch]) -> None:
        """Commit batches together; where one spoils it for all, each by itself."""
        try:
            with unreachable_as_database_error():
                async with asyncio.timeout(COMMIT_SECONDS):
                    outcomes = await self._commit(batches)
        except DatabaseError as error:
            self._disconnect()
            for batch in batches:
                batch.settle(DatabaseError(error.message, retry_after=error.retry_after))
        except Exception as error:
            self._disconnect()
            if len(batches) > 1:
                for batch in batches:
                    await self._write([batch])
                return
            log.exception("a batch of %d rows cannot be written", len(batches[0].rows))
            batches[0].settle(InternalError(f"the batch cannot be written: {type(error).__name__}"))
        else:
            for batch, outcome in outcomes.items():
                batch.settle(outcome)

    async def _commit(self, batches: list[_Batch]) -> dict[_Batch, Answer | OptimizerError]:
        connection = await self._connected()
        async with connection.transaction():
            outcomes = await _claim(connection, batches)
            fresh = [batch for batch in batches if batch not in outcomes]
            services = sorted(frozenset().union(*(batch.services for batch in fresh)) - self._known)
            if services:
                await connection.execute(
                    "INSERT INTO services (name) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING", services
                )
            received_at = await samples.clock(connection)
            for table in samples.COLUMNS:
                rows = [row for batch in fresh if batch.table == table for row in batch.rows]
                if rows:
                    await samples.copy_rows(connection, table, rows, received_at)
        self._known.update(services)
        self._count(sum(len(batch.rows) for batch in fresh))
        return outcomes | {batch: batch.answer for batch in fresh}

    async def _connected(self) -> "asyncpg.Connection[asyncpg.Record]":
        """The writer's connection, with a partition for today and for tomorrow."""
        if self._connection is None or self._connection.is_closed():
            self._connection = await samples.connect_for_copy(self._database)
            self._covered_until = 0
        if await samples.clock(self._connection) >= self._covered_until - samples.DAY_US:
            self._covered_until = samples.start_of(await ensure_partitions(self._connection))
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    def _count(self, rows: int) -> None:
        now = time.monotonic()
        while self._recent and self._recent[0][0] <= now - RATE_SECONDS:
            self._recent.popleft()
        self._recent.append((now, rows))
        self._committed += rows
        self._last_flush = time.time_ns() // 1_000_000


async def _claim(
    connection: "asyncpg.Connection[asyncpg.Record]", batches: list[_Batch]
) -> dict[_Batch, Answer | OptimizerError]:
    """Take the claims of batches, in one order everywhere; gives what those that were made before get."""
    outcomes: dict[_Batch, Answer | OptimizerError] = {}
    claimed = [(batch, batch.claim) for batch in batches if batch.claim is not None]
    for batch, claim in sorted(claimed, key=lambda pair: (pair[1].principal, pair[1].key)):
        try:
            earlier = await claim_in_copy(connection, claim, batch.answer)
        except Conflict as error:
            outcomes[batch] = error
        else:
            if earlier is not None:
                outcomes[batch] = earlier
    return outcomes


def _no_override(service: str, provider: str, model: str) -> None:
    return None

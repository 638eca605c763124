"""The one intake of metrics and evaluations, whatever the way they came by: group commit by one writer."""

import asyncio
import contextlib
import itertools
import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from domain.errors import Conflict, DatabaseError, InternalError, RateLimited, ServiceUnavailable
from domain.idempotency import Answer, Claim
from domain.reports import MetricReport, QualityEvaluation
from storage import samples
from storage.batch import Batch, Group, Newness, Outcome
from storage.copying import Copier
from storage.database import Database, unreachable_as_database_error
from storage.idempotency import known_answer
from storage.samples import PriceOverride

Ack = Literal["commit", "buffer"]
"""When a caller is answered: once its reports are committed, or once they are in the buffer."""

ROWS_PER_COMMIT = 5_000
CAPACITY = 100_000
EARLY_CAPACITY = 10_000
"""Reports that are answered and not yet committed: what the death of the process may lose at most."""
EARLY_BYTES = 32 * 1024 * 1024
"""About what these may hold of memory, and one batch more."""
FLUSH_ROWS = 100
FLUSH_SECONDS = 30.0
RETRY_SECONDS = 0.5
CLOSE_SECONDS = 10.0
LOOK_SECONDS = 5.0
RATE_SECONDS = 10

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class IntakeStats:
    """`buffered` reports wait, `early` of them answered already; `lost` of such could never be written.

    `rate` is committed reports per second; `last_flush` in ms, 0 for never.
    """

    buffered: int
    early: int
    rate: float
    last_flush: int
    committed: int
    lost: int


class Intake:
    """Takes batches, and answers each once it is committed or, where that is asked for, buffered.

    One writer drains all that waits, up to 5,000 rows, into one transaction of COPY: at once while a caller
    waits, else when 100 rows have gathered or the first is 30 seconds old. While PostgreSQL is away callers
    are refused, and what was answered early is kept and tried again.
    """

    def __init__(
        self,
        database: Database,
        *,
        override: PriceOverride | None = None,
        capacity: int = CAPACITY,
        early_capacity: int = EARLY_CAPACITY,
        early_bytes: int = EARLY_BYTES,
        flush_seconds: float = FLUSH_SECONDS,
        close_seconds: float = CLOSE_SECONDS,
    ) -> None:
        self._database = database
        self._override = override or _no_override
        self._capacity = capacity
        self._early_capacity = early_capacity
        self._most_early_bytes = early_bytes
        self._flush_seconds = flush_seconds
        self._close_seconds = close_seconds
        self._copier = Copier(database)
        self._marks = itertools.count(1)
        self._waiting: deque[Batch] = deque()
        self._again: deque[Group] = deque()
        self._claimed: dict[tuple[str, str], Batch] = {}
        self._buffered = self._early = self._early_bytes = self._callers = 0
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._overdue = self._away = self._closing = False
        self._writer: asyncio.Task[None] | None = None
        self._recent: deque[tuple[float, int]] = deque()
        self._last_flush = self._committed = self._lost = 0

    async def start(self) -> None:
        """Start the writer. PostgreSQL need not be there yet."""
        self._writer = asyncio.create_task(self._run(), name="intake-writer")

    async def close(self) -> None:
        """Take nothing more, write what waits, for ten seconds at most, and stop."""
        self._closing = True
        self._wake.set()
        if self._writer is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._close_seconds):
                    await self._writer
        self._set_timer(None)
        self._copier.disconnect()
        left = [*(batch for group in self._again for batch in group.batches), *self._waiting]
        for batch in left:
            self._settle(batch, DatabaseError("the server stopped before PostgreSQL was back"))

    @property
    def stats(self) -> IntakeStats:
        """Where the intake stands."""
        horizon = time.monotonic() - RATE_SECONDS
        recent = sum(count for at, count in self._recent if at > horizon)
        return IntakeStats(
            buffered=self._buffered,
            early=self._early,
            rate=recent / RATE_SECONDS,
            last_flush=self._last_flush,
            committed=self._committed,
            lost=self._lost,
        )

    def require_room(self, rows: int, ack: Ack) -> None:
        """Require that the intake is open and so many more reports may wait.

        Raises:
            RateLimited: too much waits already.
            ServiceUnavailable: the intake is closed.
        """
        if self._closing:
            raise ServiceUnavailable("the server is stopping", retry_after=1)
        if self._buffered + rows > self._capacity:
            raise RateLimited("more reports wait than can be written", retry_after=1)
        if ack == "buffer" and self._early + rows > self._early_capacity:
            raise RateLimited(f"{self._early} reports in the buffer wait to be written", retry_after=1)
        if ack == "buffer" and self._early_bytes >= self._most_early_bytes:
            held = f"{self._early_bytes / 2**20:.0f} MiB"
            raise RateLimited(f"{held} of reports in the buffer wait to be written", retry_after=1)

    async def metrics(
        self,
        reports: Sequence[MetricReport],
        answer: Answer,
        claim: Claim | None = None,
        ack: Ack = "commit",
        new: Newness | None = None,
    ) -> Answer:
        """Keep reports of calls, or those of them that are `new`.

        Gives `answer`, or the first one given to the same claim.

        Raises:
            RateLimited: too much waits already.
            Conflict: the claim's key was used for another request.
            DatabaseError: they were not kept, or it is not known whether they were.
        """
        services = frozenset(report.service for report in reports)
        rows = samples.metric_rows(reports, self._override)
        # Without rows nothing would bound how many wait.
        early = ack == "buffer" and bool(rows)
        return await self._submit(Batch("metrics", rows, services, answer, claim, early, new))

    async def quality(
        self,
        evaluations: Sequence[QualityEvaluation],
        answer: Answer,
        claim: Claim | None = None,
        ack: Ack = "commit",
        new: Newness | None = None,
    ) -> Answer:
        """Keep evaluations, as `metrics` does."""
        rows = samples.quality_rows(evaluations)
        early = ack == "buffer" and bool(rows)
        return await self._submit(Batch("quality", rows, frozenset(), answer, claim, early, new))

    async def _submit(self, batch: Batch) -> Answer:
        if not batch.rows and batch.claim is None and batch.new is None:
            return batch.answer
        if batch.early and batch.claim is not None:
            known = await self._known(batch.claim)
            if known is not None:
                return known
        self.require_room(len(batch.rows), "buffer" if batch.early else "commit")
        self._waiting.append(batch)
        self._buffered += len(batch.rows)
        if batch.early:
            batch.bytes = samples.bytes_of(batch.rows)
            self._early += len(batch.rows)
            self._early_bytes += batch.bytes
            if batch.claim is not None:
                self._claimed[batch.claim.principal, batch.claim.key] = batch
        else:
            self._callers += 1
        if self._is_due():
            self._wake.set()
        elif self._timer is None:
            self._set_timer(RETRY_SECONDS if self._away else self._flush_seconds)
        return batch.answer if batch.early else await batch.done

    async def _known(self, claim: Claim) -> Answer | None:
        """What a claim was answered before, as far as that can be told now.

        What is in the buffer is looked at before the database, lest it be committed between the two, and
        after it, lest it have come meanwhile.

        Raises:
            Conflict: the claim's key was used for another request.
        """
        buffered = self._buffered_answer(claim)
        if buffered is not None:
            return buffered
        with contextlib.suppress(DatabaseError), unreachable_as_database_error():
            async with asyncio.timeout(LOOK_SECONDS), (await self._database.pool()).acquire() as connection:
                answer = await known_answer(connection, claim)
                if answer is not None:
                    return answer
        return self._buffered_answer(claim)

    def _buffered_answer(self, claim: Claim) -> Answer | None:
        batch = self._claimed.get((claim.principal, claim.key))
        if batch is None or batch.claim is None:
            return None
        if batch.claim.fingerprint != claim.fingerprint:
            raise Conflict("the Idempotency-Key was used for another request")
        return batch.answer

    def _is_due(self) -> bool:
        if self._overdue or self._closing or self._callers:
            return True
        return not self._away and (self._early >= FLUSH_ROWS or bool(self._again))

    def _set_timer(self, seconds: float | None) -> None:
        """Have what waits written after so long, in place of whatever was set before."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._overdue = False
        if seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._flush_overdue)

    def _flush_overdue(self) -> None:
        self._timer, self._overdue = None, True
        self._wake.set()

    async def _run(self) -> None:
        while self._waiting or self._again or not self._closing:
            await self._wake.wait()
            self._wake.clear()
            try:
                while (self._waiting or self._again) and self._is_due():
                    await self._write(self._next())
            except DatabaseError as error:
                self._turn_away(error)
            else:
                if not self._away:
                    self._set_timer(self._flush_seconds if self._waiting else None)

    def _next(self) -> Group:
        """What to write now: first what is to be tried again, then all that waits, up to a bound."""
        if self._again:
            return self._again.popleft()
        batches = [self._waiting.popleft()]
        rows = len(batches[0].rows)
        while self._waiting and rows + len(self._waiting[0].rows) <= ROWS_PER_COMMIT:
            batches.append(self._waiting.popleft())
            rows += len(batches[-1].rows)
        if not self._waiting:
            self._overdue = False
        return self._group(batches)

    def _group(self, batches: list[Batch]) -> Group:
        early = any(batch.early for batch in batches)
        return Group(batches, str(next(self._marks)) if early else None)

    async def _write(self, group: Group) -> None:
        """Commit a group; where one batch spoils it for all, have each tried by itself.

        Raises:
            DatabaseError: PostgreSQL is out of reach; what was answered early is kept.
        """
        try:
            outcomes = await self._copier.commit(group)
        except DatabaseError as error:
            early = self._refuse(group.batches, error)
            if early:
                self._again.appendleft(Group(early, group.mark))
            raise
        except asyncio.CancelledError:
            self._again.appendleft(group)
            raise
        except Exception as error:
            self._away = False
            if len(group.batches) > 1:
                self._again.extendleft(self._group([batch]) for batch in reversed(group.batches))
                return
            log.exception("a batch of %d rows cannot be written", len(group.batches[0].rows))
            failed = InternalError(f"the batch cannot be written: {type(error).__name__}")
            self._settle(group.batches[0], failed)
        else:
            self._away = False
            self._count(sum(len(batch.rows) for batch, found in outcomes.items() if found is batch.answer))
            for batch, outcome in outcomes.items():
                self._settle(batch, outcome)

    def _turn_away(self, error: DatabaseError) -> None:
        """Refuse every caller that waits, and try again later with the rest."""
        if not self._away and self._early:
            log.warning("%d answered reports wait for PostgreSQL: %s", self._early, error.message)
        self._away = True
        for group in list(self._again):
            group.batches = self._refuse(group.batches, error)
        self._again = deque(group for group in self._again if group.batches)
        self._waiting = deque(self._refuse(self._waiting, error))
        self._set_timer(RETRY_SECONDS if self._waiting or self._again else None)

    def _refuse(self, batches: Sequence[Batch] | deque[Batch], error: DatabaseError) -> list[Batch]:
        """Refuse the callers that wait, and give the batches that nobody waits for."""
        for batch in batches:
            if not batch.early:
                self._settle(batch, DatabaseError(error.message, retry_after=error.retry_after))
        return [batch for batch in batches if batch.early]

    def _settle(self, batch: Batch, outcome: Outcome) -> None:
        """A batch is done with: it is committed, or never will be."""
        self._buffered -= len(batch.rows)
        if batch.early:
            self._early -= len(batch.rows)
            self._early_bytes -= batch.bytes
            if batch.claim is not None:
                self._claimed.pop((batch.claim.principal, batch.claim.key), None)
            if not isinstance(outcome, Answer):
                self._lost += len(batch.rows)
                log.error("%d answered reports are lost: %s", len(batch.rows), outcome)
        else:
            self._callers -= 1
        batch.settle(outcome)

    def _count(self, rows: int) -> None:
        now = time.monotonic()
        while self._recent and self._recent[0][0] <= now - RATE_SECONDS:
            self._recent.popleft()
        self._recent.append((now, rows))
        self._committed += rows
        self._last_flush = time.time_ns() // 1_000_000


def _no_override(service: str, provider: str, model: str) -> None:
    return None

"""A while of sending to one endpoint: in order within each lane, several lanes at once."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence

from activities.delivery_http import Endpoint, Poster, Reply
from domain.retries import delay_ms
from domain.webhooks import DeliveryStatus, RetryPolicy
from storage import deliveries
from storage.database import Database
from storage.deliveries import Due, Outcome

BATCH_SECONDS = 20.0
LANES = 8
"""How many events are on their way to an endpoint at once, each of another lane."""
AHEAD = 20
"""How many events of a lane are read at once."""
LOOK_SECONDS = 1.0
"""How long a slow lane may keep what is due in others from being noticed."""
GONE = 410
_PENDING: DeliveryStatus = "pending"


class Batch:
    """Ends when nothing is due, after some time, when `enough` says so, or when the endpoint does.

    A lane goes on until an attempt in it fails; it is then due again later, and no other lane waits for it.
    Afterwards `counts` tells how many attempts came to what, `unfinished` that more may be due, and `gone`
    that the endpoint wants nothing any more.
    """

    def __init__(
        self,
        database: Database,
        poster: Poster,
        webhook_id: str,
        endpoint: Endpoint,
        policy: RetryPolicy,
        *,
        enough: Callable[[], bool],
    ) -> None:
        self._database = database
        self._poster = poster
        self._webhook_id = webhook_id
        self._endpoint = endpoint
        self._policy = policy
        self._enough = enough
        self._recorder = Recorder(database, webhook_id)
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._refused = False
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + BATCH_SECONDS
        self.counts: Counter[DeliveryStatus] = Counter()
        self.unfinished = False
        self.gone = False

    async def run(self) -> None:
        """Send.

        Raises:
            DatabaseError: PostgreSQL is out of reach. What was sent meanwhile may be sent again.
        """
        try:
            while not self._over():
                more = await self._start_lanes()
                if not self._busy and not more:
                    return
                await self._wait_for_lanes(LOOK_SECONDS)
            self.unfinished = True
            while self._busy:
                await self._wait_for_lanes(None)
        finally:
            for task in self._busy.values():
                task.cancel()
            await asyncio.gather(*self._busy.values(), return_exceptions=True)
            await self._recorder.close()

    def _over(self) -> bool:
        return self._refused or self._enough() or self._loop.time() >= self._deadline

    async def _start_lanes(self) -> bool:
        """Set free lanes to work on what is due; whether more was published than could be taken over."""
        async with self._database.transaction() as session:
            more = await deliveries.take_over(session, self._webhook_id)
            await session.flush()
            free = LANES - len(self._busy)
            found = await deliveries.due(session, self._webhook_id, lanes=free, each=AHEAD, busy=self._busy)
        for lane, waiting in found.items():
            self._busy[lane] = asyncio.create_task(self._send(waiting))
        return more

    async def _wait_for_lanes(self, seconds: float | None) -> None:
        """Until one is done, or so long."""
        if not self._busy:
            return
        await asyncio.wait(self._busy.values(), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for lane, task in list(self._busy.items()):
            if task.done():
                del self._busy[lane]
                task.result()

    async def _send(self, waiting: Sequence[Due]) -> None:
        for due in waiting:
            if self._over():
                return
            outcome = self._judge(due, await self._poster.post(self._endpoint, due.event))
            if outcome.gone or outcome.hold_ms is not None:
                self._refused = True
            if not await self._recorder.record(outcome):
                # Another worker took this lane over; going on would mix up its order.
                return
            self.counts[outcome.status] += 1
            self.gone = self.gone or outcome.gone
            if outcome.status == "pending":
                return

    def _judge(self, due: Due, reply: Reply) -> Outcome:
        failures = due.attempts + 1
        wait, status = 0, _PENDING
        if reply.error is None:
            status = "delivered"
        elif reply.status != GONE and failures > self._policy.max_retries:
            status = "failed"
        elif reply.status != GONE:
            wait = delay_ms(self._policy, failures, chance=random.random())
        return Outcome(
            due,
            status=status,
            response_status=reply.status,
            error=reply.error,
            duration_ms=reply.duration_ms,
            delay_ms=max(wait, reply.retry_after_ms or 0),
            hold_ms=reply.retry_after_ms,
            gone=reply.status == GONE,
        )


class Recorder:
    """Writes outcomes to the database; those that come in while it writes go into one transaction."""

    def __init__(self, database: Database, webhook_id: str) -> None:
        self._database = database
        self._webhook_id = webhook_id
        self._waiting: list[tuple[Outcome, asyncio.Future[bool]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def record(self, outcome: Outcome) -> bool:
        """Record an outcome; False where the delivery is not where it was attempted.

        Raises:
            DatabaseError: PostgreSQL is out of reach.
        """
        recorded: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((outcome, recorded))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        return await recorded

    async def close(self) -> None:
        """Let what is being written come to its end."""
        if self._writing is not None:
            await self._writing

    async def _write(self) -> None:
        while self._waiting:
            together, self._waiting = self._waiting, []
            try:
                async with self._database.transaction() as session:
                    written = await deliveries.record(
                        session, self._webhook_id, [outcome for outcome, _ in together]
                    )
            except Exception as error:
                for _, recorded in together:
                    if not recorded.done():
                        recorded.set_exception(error)
            else:
                for outcome, recorded in together:
                    if not recorded.done():
                        recorded.set_result(outcome.due.id in written)

"""Brings what is in the spool to the server: one batch at a time, each under one key for all its tries."""

import asyncio
import contextlib
import logging
import random
import time
from typing import Any

import httpx
from llm_auto_optimizer import (
    ForbiddenError,
    InternalError,
    NotFoundError,
    OptimizerError,
    RateLimitedError,
    ServiceUnavailableError,
    UnauthorizedError,
    UnexpectedAnswerError,
)
from llm_auto_optimizer._errors import refused
from llm_auto_optimizer._request import decode, post_encoded
from llm_auto_optimizer._transport import AsyncTransport

from api.sidecar.spool import Delivery, Kind, Spool
from api.sidecar.writer import Counts, Writer

GATHER_SECONDS = 0.2
"""How long what has come waits for more."""
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0
LONGEST_ASKED_PAUSE = 60.0
KEY_LIFE_MS = 23 * 3_600_000
"""The server knows a key for 24 hours."""
FAULTY_TRIES = 20
"""Tries of a batch that the server fails to write, and not for want of its database."""

MAX_LOGGED = 500

_PATHS: dict[Kind, str] = {"metrics": "/metrics", "evaluations": "/quality"}
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
# What somebody may mend, at the server or in the sidecar's settings.
_MENDABLE = (UnauthorizedError, ForbiddenError, NotFoundError)
# Answered before anything is kept.
_NOT_KEPT = (RateLimitedError, ServiceUnavailableError, *_MENDABLE)

log = logging.getLogger(__name__)


class Deliverer:
    """Tries for as long as it takes. Whatever is not delivered stays in the spool.

    A try that got no answer may have been written, whatever later tries are answered, so the same batch goes
    again under the same key, and the server takes it once. Past the key's life it would be counted twice:
    then it is let go.
    """

    def __init__(self, writer: Writer, transport: AsyncTransport) -> None:
        self._writer = writer
        self._transport = transport
        self._failing = False
        # Set while nothing waits, or nothing can be done about it.
        self._idle = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.last_delivered = 0
        """When the server took something last, ms since the epoch; 0 for never."""

    def start(self) -> None:
        """Begin to deliver."""
        self._task = asyncio.create_task(self._run(), name="sidecar-delivery")

    async def close(self, seconds: float) -> None:
        """Go on for so long while the server takes what waits, then stop."""
        if self._task is None:
            return
        if self._writer.arrived.is_set() and not self._failing:
            self._idle.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self._next()
            except Exception:
                log.exception("delivery failed, and goes on")
                await asyncio.sleep(LONGEST_PAUSE)

    async def _next(self) -> None:
        self._writer.arrived.clear()
        delivery = await self._writer.run(Spool.next_delivery)
        if delivery is None:
            self._idle.set()
            await self._writer.arrived.wait()
            self._idle.clear()
            await asyncio.sleep(GATHER_SECONDS)
            return
        end = await self._deliver(delivery)
        await self._writer.run(Spool.finish, delivery)
        # Not before it is finished with: otherwise it comes again, and would be counted again.
        counts = self._writer.counts
        counts.delivered += end.delivered
        counts.rejected += end.rejected
        counts.dropped += end.dropped
        counts.uncertain += end.uncertain

    async def _deliver(self, delivery: Delivery) -> Counts:
        """Try until the delivery is done with, one way or the other; gives what became of it."""
        uncertain_since, failures, faults = delivery.uncertain_since, 0, 0
        while True:
            began = _now_ms()
            if uncertain_since is None:
                await self._writer.run(Spool.mark_uncertain, began)
            elif began - uncertain_since >= KEY_LIFE_MS:
                log.error("whether %d reports were kept will not be known any more", delivery.items)
                return Counts(uncertain=delivery.items)
            try:
                tally = await self._send(delivery)
            except OptimizerError as error:
                faults += isinstance(error, InternalError)
                if _is_final(error) or faults >= FAULTY_TRIES:
                    log.error("the server refuses %d reports for good: %s", delivery.items, error)
                    return Counts(dropped=delivery.items)
                if not _was_not_kept(error):
                    uncertain_since = began if uncertain_since is None else uncertain_since
                elif uncertain_since is None:
                    await self._writer.run(Spool.mark_uncertain, None)
                self._tell_of(error)
                failures += 1
                await asyncio.sleep(_pause(failures, error))
            else:
                self._tell_of_success(tally)
                return Counts(delivered=tally["accepted"], rejected=tally["rejected"])

    async def _send(self, delivery: Delivery) -> dict[str, Any]:
        request = post_encoded(_PATHS[delivery.kind], delivery.body, idempotency_key=delivery.key)
        tally = decode(await self._transport.send(request))
        counted = (tally.get("accepted"), tally.get("rejected"))
        if not all(isinstance(count, int) for count in counted) or sum(counted) != delivery.items:
            raise UnexpectedAnswerError("the answer does not tell of the reports", body=tally)
        return dict(tally)

    def _tell_of(self, error: OptimizerError) -> None:
        if not self._failing:
            log.warning("%d reports wait for the server: %s", self._writer.waiting[0], error)
        self._failing = True
        self._idle.set()

    def _tell_of_success(self, tally: dict[str, Any]) -> None:
        if self._failing:
            log.warning("the server takes reports again")
        self._failing = False
        self._idle.clear()
        self.last_delivered = _now_ms()
        if tally["rejected"]:
            reasons = str(tally.get("errors"))[:MAX_LOGGED]
            log.warning("the server rejected %d reports: %s", tally["rejected"], reasons)


def _was_not_kept(error: OptimizerError) -> bool:
    return isinstance(error, _NOT_KEPT) or isinstance(error.__cause__, _NEVER_SENT)


def _is_final(error: OptimizerError) -> bool:
    return refused(error) and not isinstance(error, (*_MENDABLE, InternalError))


def _pause(failures: int, error: OptimizerError) -> float:
    """Seconds until the next try, of which a random half is taken away."""
    backoff = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 30)) * random.uniform(0.5, 1.0)
    return max(backoff, min(error.retry_after or 0.0, LONGEST_ASKED_PAUSE))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

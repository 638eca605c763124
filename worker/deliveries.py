"""Wakes the workflow of each endpoint for which there is something to do."""

import asyncio
import contextlib
import logging

from temporalio.client import Client

from domain.addresses import host_of
from domain.errors import DatabaseError, OptimizerError
from storage import deliveries, webhooks
from storage.database import Database
from workflows import starts

log = logging.getLogger(__name__)
# While much is published, a workflow is woken no more often than this.
PAUSE_SECONDS = 0.1


class Waker:
    """Any number of them may run: a workflow that is woken twice looks twice."""

    def __init__(self, database: Database, client: Client) -> None:
        self._database = database
        self._client = client
        self._enabled: set[str] = set()

    async def wake(self) -> int:
        """Wake whoever has something to do, and whoever is to end; gives how many were woken.

        Raises:
            DatabaseError: PostgreSQL is out of reach.
        """
        async with self._database.transaction() as session:
            waiting = await deliveries.waiting(session)
            enabled = await webhooks.enabled(session)
        woken = 0
        try:
            for webhook_id, url in waiting:
                await starts.wake_delivery(self._client, webhook_id, summary=f"webhook {host_of(url)}")
                woken += 1
            for webhook_id in sorted(self._enabled - enabled):
                await starts.end_delivery(self._client, webhook_id)
                self._enabled.discard(webhook_id)
                woken += 1
        except (starts.StartUnknown, OptimizerError) as error:
            log.warning("not every delivery is woken yet: %s", error)
        self._enabled |= enabled
        return woken


async def run(database: Database, client: Client, woken: asyncio.Event, *, every: float = 5.0) -> None:
    """Wake whenever `woken` is set, and every so many seconds besides, until cancelled."""
    waker = Waker(database, client)
    while True:
        woken.clear()
        try:
            await waker.wake()
        except DatabaseError as error:
            log.warning("no delivery was woken: %s", error)
        except Exception:
            log.exception("no delivery was woken")
        await asyncio.sleep(PAUSE_SECONDS)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(every):
                await woken.wait()

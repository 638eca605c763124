"""Publishes events as they are committed, by whichever process sees them first."""

import asyncio
import contextlib
import logging

from domain.errors import DatabaseError
from storage import event_log
from storage.database import Database
from storage.fanout import FanOut, published

POLL_SECONDS = 2.0

log = logging.getLogger(__name__)


async def publish_all(database: Database, fan_out: FanOut | None = None) -> None:
    """Publish whatever waits."""
    while True:
        async with database.transaction() as session:
            events = await event_log.publish(session)
        if not events:
            return
        if fan_out is not None:
            await fan_out.send([published(event) for event in events])


async def run(database: Database, fan_out: FanOut | None, woken: asyncio.Event) -> None:
    """Publish whenever `woken` is set, and every 2 seconds besides, until cancelled."""
    while True:
        woken.clear()
        try:
            await publish_all(database, fan_out)
        except DatabaseError as error:
            log.warning("nothing was published: %s", error)
        except Exception:
            log.exception("nothing was published")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_SECONDS):
                await woken.wait()

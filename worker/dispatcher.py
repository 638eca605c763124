"""Starts the workflows that rows wait for: queued while paused, made by a tick, or with a lost start."""

import asyncio
import contextlib
import logging

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.client import Client

from domain.errors import DatabaseError, OptimizerError
from storage import control
from storage.database import Database
from storage.tables import Optimization, Rollout
from workflows import starts

log = logging.getLogger(__name__)
BATCH = 50


async def dispatch(database: Database, client: Client) -> int:
    """Start what waits, unless a pause or stop holds; gives how many workflows were started.

    No lock is held while Temporal is asked, which may be slow, so that an emergency stop never waits for it.
    Several dispatchers may start the same row: it has one workflow all the same, and that claims the row.
    """
    async with database.transaction() as session:
        if (await control.get(session)).state != "running":
            return 0
        waiting = await _waiting(session)
    started: list[Optimization | Rollout] = []
    for row in waiting:
        try:
            await _start(client, row)
        except (starts.StartUnknown, OptimizerError) as error:
            log.warning("%s is not started yet: %s", row.id, error)
            break
        started.append(row)
    for table in (Optimization, Rollout):
        ids = [row.id for row in started if isinstance(row, table)]
        # A statement that changes no row notifies all the same, and so would wake every dispatcher again.
        if ids:
            async with database.transaction() as session:
                await session.execute(update(table).where(table.id.in_(ids)).values(dispatched=True))
    return len(started)


async def _waiting(session: AsyncSession) -> list[Optimization | Rollout]:
    runs = select(Optimization).where(Optimization.status == "queued", ~Optimization.dispatched)
    opened = select(Rollout).where(Rollout.status == "pending", ~Rollout.dispatched)
    return [
        *(await session.execute(runs.order_by(Optimization.created_at).limit(BATCH))).scalars(),
        *(await session.execute(opened.order_by(Rollout.created_at).limit(BATCH))).scalars(),
    ]


async def _start(client: Client, row: Optimization | Rollout) -> None:
    if isinstance(row, Optimization):
        await starts.start_optimization(client, row.id, summary=starts.summary_of_run(row.request))
        return
    summary = starts.summary_of_rollout(row.scope, row.from_version, row.to_version, row.strategy)
    await starts.start_rollout(client, row.id, summary=summary)


async def run(database: Database, client: Client, woken: asyncio.Event, *, every: float = 1.0) -> None:
    """Dispatch whenever `woken` is set, and every so many seconds besides, until cancelled."""
    while True:
        woken.clear()
        try:
            await dispatch(database, client)
        except DatabaseError as error:
            log.warning("nothing was dispatched: %s", error)
        except Exception:
            log.exception("nothing was dispatched")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(every):
                await woken.wait()

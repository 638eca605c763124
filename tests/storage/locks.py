"""Seeing who waits for a lock, so that tests can interleave transactions without waiting for time to pass."""

import asyncio

from storage.database import Database

WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


async def until_waiting(database: Database, transactions: int = 1) -> None:
    """Return once so many transactions wait for a lock."""
    pool = await database.pool()
    async with asyncio.timeout(20):
        while True:
            if await pool.fetchval(WAITING) >= transactions:
                return
            await asyncio.sleep(0.01)

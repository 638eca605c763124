"""Seeing who waits for a lock, so that tests can interleave transactions without waiting for time to pass."""

from storage.database import Database
from tests.waiting import until

WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


async def until_waiting(database: Database, transactions: int = 1) -> None:
    """Return once so many transactions wait for a lock."""
    pool = await database.pool()

    async def waiting() -> bool:
        return bool(await pool.fetchval(WAITING) >= transactions)

    await until(waiting)

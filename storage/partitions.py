"""Day partitions of reports and of their minutes, by arrival in UTC."""

from collections.abc import Iterable
from datetime import date, timedelta

import asyncpg

from storage.samples import NEXT_ARRIVAL

TABLES = ("metrics", "quality", "rollup_minutes")
DAYS_AHEAD = 3
_LOCK = 0x706172746974696F


async def today(connection: "asyncpg.Connection[asyncpg.Record]") -> date:
    """The day (UTC) by the database's clock."""
    day: date = await connection.fetchval("SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date")
    return day


async def ensure_partitions(
    connection: "asyncpg.Connection[asyncpg.Record]", days_ahead: int = DAYS_AHEAD
) -> date:
    """Make what is missing from the next arrival's day on; gives the first day without one."""
    first: date = await connection.fetchval(
        f"SELECT ({NEXT_ARRIVAL} AT TIME ZONE 'UTC')::date FROM rollup_progress"
    )
    days = [first + timedelta(days=ahead) for ahead in range(days_ahead + 1)]
    await _ensure(connection, [(table, day) for table in TABLES for day in days])
    return days[-1] + timedelta(days=1)


async def ensure_day(connection: "asyncpg.Connection[asyncpg.Record]", table: str, day: date) -> None:
    """Make a table's partition of a day, if it is missing."""
    await _ensure(connection, [(table, day)])


async def _ensure(
    connection: "asyncpg.Connection[asyncpg.Record]", wanted: Iterable[tuple[str, date]]
) -> None:
    """A new partition is made beside its parent and attached, which stops neither readers nor writers."""
    known = await _partitions(connection)
    missing = [partition for partition in wanted if _name(*partition) not in known]
    if missing:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
            known = await _partitions(connection)
            for table, day in missing:
                if _name(table, day) not in known:
                    await _attach(connection, table, day)


async def drop_partitions(connection: "asyncpg.Connection[asyncpg.Record]", before: date) -> list[str]:
    """Drop the partitions of the days before a day, and give their names.

    Waits two seconds at most for those who read them.

    Raises:
        asyncpg.LockNotAvailableError: they read for longer; those dropped so far stay dropped.
    """
    dropped = []
    for name in sorted(await _partitions(connection)):
        if date.fromisoformat(name.rpartition("_")[2]) < before:
            async with connection.transaction():
                await connection.execute("SET LOCAL lock_timeout = '2s'")
                await connection.execute(f"DROP TABLE IF EXISTS {name}")
            dropped.append(name)
    return dropped


async def partition_days(connection: "asyncpg.Connection[asyncpg.Record]", table: str) -> list[date]:
    """The days of which a table has a partition, the oldest first."""
    return sorted(
        date.fromisoformat(name.removeprefix(f"{table}_"))
        for name in await _partitions(connection)
        if name.startswith(f"{table}_")
    )


async def _partitions(connection: "asyncpg.Connection[asyncpg.Record]") -> set[str]:
    rows = await connection.fetch(
        "SELECT child.relname FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid "
        "WHERE inhparent = ANY($1::text[]::regclass[])",
        TABLES,
    )
    return {row["relname"] for row in rows}


async def _attach(connection: "asyncpg.Connection[asyncpg.Record]", table: str, day: date) -> None:
    name, until = _name(table, day), day + timedelta(days=1)
    await connection.execute(f"CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS)")
    await connection.execute(
        f"ALTER TABLE {table} ATTACH PARTITION {name} "
        f"FOR VALUES FROM ('{day} 00:00:00+00') TO ('{until} 00:00:00+00')"
    )


def _name(table: str, day: date) -> str:
    return f"{table}_{day:%Y%m%d}"

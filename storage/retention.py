"""Forgets reports and their rollups, for each service as long after their arrival as its policy says."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta

import asyncpg

from storage.partitions import TABLES, drop_partitions, partition_days

_PLAIN = ("rollup_hours", "rollup_days")


async def forget(
    connection: "asyncpg.Connection[asyncpg.Record]", today: date, kept_days: int, shorter: Mapping[str, int]
) -> list[str]:
    """Drop the days (UTC) before the last `kept_days`; gives the names of the partitions.

    Of the services in `shorter` less is kept: so many days each. What is dropped with its partition costs
    nothing; theirs is deleted day by day.

    Raises:
        asyncpg.LockNotAvailableError: somebody reads a partition for long; the rest is for the next time.
    """
    dropped = await drop_partitions(connection, today - timedelta(days=kept_days))
    for table in _PLAIN:
        await connection.execute(f"DELETE FROM {table} WHERE arrived < $1", _midnight(today, kept_days))
    by_days: dict[int, list[str]] = defaultdict(list)
    for service, days in shorter.items():
        by_days[days].append(service)
    for days, names in by_days.items():
        await _forget_of(connection, names, today - timedelta(days=days))
    return dropped


async def _forget_of(
    connection: "asyncpg.Connection[asyncpg.Record]", services: list[str], before: date
) -> None:
    for table in _PLAIN:
        await connection.execute(
            f"DELETE FROM {table} WHERE service = ANY($1) AND arrived < $2", services, _midnight(before)
        )
    for table in TABLES:
        arrival = "arrived" if table == "rollup_minutes" else "received_at"
        for day in await partition_days(connection, table):
            if day < before:
                await connection.execute(
                    f"DELETE FROM {table} WHERE service = ANY($1) AND {arrival} >= $2 AND {arrival} < $3",
                    *(services, _midnight(day), _midnight(day, -1)),
                )


def _midnight(day: date, days_before: int = 0) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(days=days_before)

"""Points at which a transaction of a worker is held, so that the worker can be killed exactly there.

A trigger makes the transaction wait for a lock that the test holds: right after its write, before the commit,
or within the commit itself. In the first case killing the worker undoes the write; in the second, the
database commits all the same once the lock is let go, and the worker's answer is lost.
"""

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from tests.waiting import until

_CLASS = 4711
_TABLES = ("optimizations", "optimized_services", "rollouts", "rollout_steps", "rollout_checks")
_INSTALL = f"""
    CREATE TABLE chaos_points (key integer, tbl text, pattern jsonb, committing boolean);
    CREATE FUNCTION hold_at_point() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE point record;
    BEGIN
        FOR point IN SELECT key FROM chaos_points
            WHERE tbl = TG_TABLE_NAME AND committing = TG_ARGV[0]::boolean AND to_jsonb(NEW) @> pattern
        LOOP
            PERFORM pg_advisory_xact_lock_shared({_CLASS}, point.key);
        END LOOP;
        RETURN NULL;
    END $$;
""" + "".join(
    f"""
    CREATE TRIGGER hold AFTER INSERT OR UPDATE ON {table}
        FOR EACH ROW EXECUTE FUNCTION hold_at_point('false');
    CREATE CONSTRAINT TRIGGER hold_commit AFTER INSERT OR UPDATE ON {table} DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION hold_at_point('true');
    """
    for table in _TABLES
)
_REMOVE = "DROP FUNCTION hold_at_point CASCADE; DROP TABLE chaos_points"
_WAITING = f"""
    SELECT DISTINCT objid::integer AS key FROM pg_locks
    WHERE locktype = 'advisory' AND classid = {_CLASS} AND NOT granted
"""


@dataclass(frozen=True)
class Point:
    """The write of a row of `table` that contains `pattern`; `committing`: not the write, but its commit."""

    table: str
    pattern: dict[str, Any]
    committing: bool = False


class Points:
    """Points that hold until they are let go."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._connection = connection
        self._points: list[Point] = []

    async def hold(self, points: Iterable[Point]) -> None:
        """From now on, hold whoever comes to these."""
        for point in points:
            self._points.append(point)
            key = len(self._points)
            await self._connection.execute("SELECT pg_advisory_lock($1, $2)", _CLASS, key)
            await self._connection.execute(
                "INSERT INTO chaos_points VALUES ($1, $2, $3, $4)",
                key,
                point.table,
                json.dumps(point.pattern),
                point.committing,
            )

    async def until_reached(self) -> None:
        """Return once a transaction waits at each point."""

        async def all_reached() -> bool:
            waiting = {row["key"] for row in await self._connection.fetch(_WAITING)}
            self._missing = [p for key, p in enumerate(self._points, 1) if key not in waiting]
            return not self._missing

        try:
            await until(all_reached, 40)
        except TimeoutError:
            raise AssertionError(f"never reached: {self._missing}") from None

    async def let_go(self) -> None:
        """Hold nobody any more."""
        await self._connection.execute("DELETE FROM chaos_points")
        await self._connection.execute("SELECT pg_advisory_unlock_all()")
        self._points.clear()


@asynccontextmanager
async def points_in(database_url: str) -> AsyncIterator[Points]:
    """Points in a database, which are gone at the end."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(_INSTALL)
        points = Points(connection)
        yield points
        await points.let_go()
        await connection.execute(_REMOVE)
    finally:
        await connection.close()

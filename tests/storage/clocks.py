"""A PostgreSQL whose clock can be set."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg


class Clock:
    """The clock of one database, for whoever connects from now on."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._connection = connection

    async def set(self, *, days_ahead: float) -> None:
        """Set it ahead of the true time, or back to that."""
        await self._connection.execute(
            "UPDATE false_time.clock SET ahead = $1 * interval '1 day'", days_ahead
        )


@asynccontextmanager
async def settable_clock(connection: "asyncpg.Connection[asyncpg.Record]") -> AsyncIterator[Clock]:
    """Have PostgreSQL's own functions of the present time hidden behind such as can be set."""
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(
        f"""
        CREATE SCHEMA false_time;
        CREATE TABLE false_time.clock AS SELECT interval '0' AS ahead;
        CREATE FUNCTION false_time.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
            AS 'SELECT pg_catalog.clock_timestamp() + ahead FROM false_time.clock';
        CREATE FUNCTION false_time.statement_timestamp() RETURNS timestamptz LANGUAGE sql STABLE
            AS 'SELECT pg_catalog.statement_timestamp() + ahead FROM false_time.clock';
        ALTER DATABASE {name} SET search_path = public, false_time, pg_catalog;
        """
    )
    try:
        yield Clock(connection)
    finally:
        await connection.execute(f"ALTER DATABASE {name} RESET search_path; DROP SCHEMA false_time CASCADE")

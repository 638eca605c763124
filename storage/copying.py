"""The transaction that the intake's writer makes of a group of batches."""

import asyncio
import secrets
from typing import TypeAlias

import asyncpg

from domain.errors import Conflict, DatabaseError
from storage import samples
from storage.batch import Batch, Group, Outcome
from storage.database import Database, unreachable_as_database_error
from storage.idempotency import claim_in_copy, first_write
from storage.partitions import DAYS_AHEAD, ensure_partitions
from storage.samples import Row

COMMIT_SECONDS = 20.0
_FAULTS_OF_ROWS = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
)
# The tables of reports have no other check than that there is a partition.
_NoPartition = asyncpg.CheckViolationError
MOST_SERVICES = 10_000
"""Services that are known at once to have been introduced."""

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


class Copier:
    """Commits one group at a time, on a connection of its own.

    `received_at` is the time just before the COPY, by `samples.clock`: whoever reads closed intervals of
    arrival must leave a second.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._name = secrets.token_hex(8)
        self._connection: Connection | None = None
        self._known: set[str] = set()
        self._covered_until = 0
        self._arrived = 0

    async def commit(self, group: Group) -> dict[Batch, Outcome]:
        """Write what is new of a group, and give what became of each batch.

        Raises:
            DatabaseError: PostgreSQL is away or in trouble. Whether the group was written is not known.
            Exception: nothing was written, and one of the batches is at fault.
        """
        try:
            with unreachable_as_database_error():
                async with asyncio.timeout(COMMIT_SECONDS):
                    return await self._commit(group)
        except asyncpg.PostgresError as error:
            self.disconnect()
            if isinstance(error, _FAULTS_OF_ROWS) and not isinstance(error, _NoPartition):
                raise
            raise DatabaseError(f"PostgreSQL refused to write: {error}", retry_after=1) from error
        except BaseException:
            self.disconnect()
            raise

    def disconnect(self) -> None:
        """Let the connection go; the next commit makes another."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _commit(self, group: Group) -> dict[Batch, Outcome]:
        connection = await self._connected()
        try:
            return await self._transaction(connection, group)
        except _NoPartition:
            # It was dropped, or the clock has jumped.
            await self._cover(connection)
            return await self._transaction(connection, group)

    async def _transaction(self, connection: Connection, group: Group) -> dict[Batch, Outcome]:
        async with connection.transaction():
            if group.mark is not None and not await first_write(connection, self._name, group.mark):
                return {batch: batch.answer for batch in group.batches}
            outcomes = await _claim(connection, group.batches)
            fresh = [batch for batch in group.batches if batch not in outcomes]
            services = await self._introduce(connection, fresh)
            written = {batch: await _new_rows(connection, batch) for batch in fresh}
            self._arrived = await samples.clock(connection)
            for table in samples.COLUMNS:
                rows = [row for batch in fresh if batch.table == table for row in written[batch]]
                if rows:
                    await samples.copy_rows(connection, table, rows, self._arrived)
        if len(self._known) + len(services) > MOST_SERVICES:
            self._known.clear()
        self._known.update(services)
        return outcomes | {batch: batch.answer for batch in fresh}

    async def _introduce(self, connection: Connection, batches: list[Batch]) -> list[str]:
        """Make services known that were never heard of by this writer."""
        services = sorted(frozenset().union(*(batch.services for batch in batches)) - self._known)
        if services:
            await connection.execute(
                "INSERT INTO services (name) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING", services
            )
        return services

    async def _connected(self) -> Connection:
        """The connection, with partitions for some days from the last arrival on."""
        if self._connection is None or self._connection.is_closed():
            self._connection = await samples.connect_for_copy(self._database)
            await self._cover(self._connection)
        elif self._arrived >= self._covered_until - DAYS_AHEAD * samples.DAY_US:
            await self._cover(self._connection)
        return self._connection

    async def _cover(self, connection: Connection) -> None:
        self._covered_until = samples.start_of(await ensure_partitions(connection))


async def _new_rows(connection: Connection, batch: Batch) -> list[Row]:
    if batch.new is None:
        return batch.rows
    return await batch.new.of(connection, batch.rows, batch.services)


async def _claim(connection: Connection, batches: list[Batch]) -> dict[Batch, Outcome]:
    """Take the claims of batches, in one order everywhere; gives what those that were made before get."""
    outcomes: dict[Batch, Outcome] = {}
    claimed = [(batch, batch.claim) for batch in batches if batch.claim is not None]
    for batch, claim in sorted(claimed, key=lambda pair: (pair[1].principal, pair[1].key)):
        try:
            earlier = await claim_in_copy(connection, claim, batch.answer)
        except Conflict as error:
            outcomes[batch] = error
        else:
            if earlier is not None:
                outcomes[batch] = earlier
    return outcomes

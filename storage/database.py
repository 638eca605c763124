"""Connections to PostgreSQL and the transaction boundary."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from domain.errors import DatabaseError, TimedOut

CONNECT_SECONDS = 5.0
STATEMENT_SECONDS = 30.0
# A process that hangs in a transaction must not keep its locks, the control row's least of all.
_SERVER_SETTINGS = {"idle_in_transaction_session_timeout": "15s"}
_UNREACHABLE = (OSError, asyncio.TimeoutError, InterfaceError, OperationalError, PoolTimeout)
# By the driver, and within what SQLAlchemy makes of it.
_REFUSED = (
    asyncpg.PostgresConnectionError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # of a connection that the server ended between two statements
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,  # starting up or shutting down, too
    asyncpg.IdleInTransactionSessionTimeoutError,
)


class Database:
    """The engine for records and a raw asyncpg pool for COPY and LISTEN, on one PostgreSQL.

    `url` is `postgresql://user:password@host:port/name`. Nothing is connected before it is needed.
    """

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        self.url = make_url(url).set(drivername="postgresql")
        self._engine = create_async_engine(
            self.url.set(drivername="postgresql+asyncpg"),
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_timeout=CONNECT_SECONDS,
            pool_pre_ping=True,
            json_serializer=lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":")),
            connect_args={
                "timeout": CONNECT_SECONDS,
                "command_timeout": STATEMENT_SECONDS,
                "server_settings": _SERVER_SETTINGS,
            },
        )
        self._session = async_sessionmaker(self._engine, expire_on_commit=False)
        self._pool_size = pool_size
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._pool_lock = asyncio.Lock()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """A session in a transaction, committed at the end of the block, rolled back on any exception.

        Raises:
            DatabaseError: PostgreSQL is out of reach, or went away meanwhile. Whether a commit that was
                under way took place is then unknown.
        """
        with unreachable_as_database_error():
            async with self._session.begin() as session:
                yield session

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncSession]:
        """A session that sees one moment throughout and in which PostgreSQL refuses every write.

        Raises:
            DatabaseError: PostgreSQL is out of reach.
        """
        async with self.transaction() as session:
            await session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            yield session

    async def pool(self) -> "asyncpg.Pool[asyncpg.Record]":
        """The raw asyncpg pool, made at its first use.

        Raises:
            DatabaseError: PostgreSQL is out of reach.
        """
        async with self._pool_lock:
            if self._pool is None:
                with unreachable_as_database_error():
                    self._pool = await asyncpg.create_pool(
                        self.dsn,
                        min_size=0,
                        max_size=self._pool_size,
                        timeout=CONNECT_SECONDS,
                        command_timeout=STATEMENT_SECONDS,
                        server_settings=_SERVER_SETTINGS,
                        init=_with_json,
                    )
            return self._pool

    @property
    def dsn(self) -> str:
        """The address as plain asyncpg and psql take it, password included."""
        return self.url.render_as_string(hide_password=False)

    async def connect(self, *, name: str = "llm-optimizer") -> "asyncpg.Connection[asyncpg.Record]":
        """A connection outside the pools, called so in `pg_stat_activity`."""
        with unreachable_as_database_error():
            return await asyncpg.connect(
                self.dsn, timeout=CONNECT_SECONDS, server_settings={"application_name": name}
            )

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()
        if self._pool is not None:
            await self._pool.close()


@asynccontextmanager
async def deadline(session: AsyncSession, seconds: float) -> AsyncIterator[None]:
    """Let the block take no longer, and PostgreSQL no longer over any of its statements.

    Raises:
        TimedOut: it did; the transaction is over.
    """
    limit = f"{seconds * 1000:.0f}ms"
    await session.execute(text("SELECT set_config('statement_timeout', :limit, true)"), {"limit": limit})
    try:
        async with asyncio.timeout(seconds):
            yield
    except (DBAPIError, asyncpg.QueryCanceledError, TimeoutError) as error:
        # While rows are fetched one after the other, the driver's own error comes through.
        cause = error.orig.__cause__ if isinstance(error, DBAPIError) and error.orig is not None else error
        if not isinstance(cause, asyncpg.QueryCanceledError | TimeoutError):
            raise
        raise TimedOut(
            f"the query took longer than {seconds:g} s; ask for less time or less at once"
        ) from error


async def _with_json(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    await connection.set_type_codec(
        "jsonb", encoder=_dump_json, decoder=json.loads, schema="pg_catalog", format="text"
    )


def _dump_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class unreachable_as_database_error:  # noqa: N801  used as a function, in `with`
    """Turn what the drivers raise when PostgreSQL cannot be reached into `DatabaseError`."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        if error is not None and _is_unreachable(error):
            full = isinstance(_cause(error), asyncpg.DiskFullError)
            why = "PostgreSQL has no space left" if full else "PostgreSQL cannot be reached"
            raise DatabaseError(why, retry_after=1) from error


def _is_unreachable(error: BaseException) -> bool:
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    return isinstance(error, _UNREACHABLE) or isinstance(_cause(error), _REFUSED)


def _cause(error: BaseException) -> BaseException | None:
    """What the driver raised."""
    if not isinstance(error, DBAPIError):
        return error
    return None if error.orig is None else error.orig.__cause__

"""Real servers that fail: a key that asks too often, too slow, Temporal or PostgreSQL away."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import text
from temporalio.client import Client

from api.app import create_app
from api.serve import server_for
from domain.rate_limits import RateLimits
from infra.embedded import EmbeddedStack
from storage.database import Database
from storage.migrations import upgrade

ADMIN_KEY = "admin-key-of-vectors"

Record = Callable[[str, str], Any]


async def _connect() -> Client:
    raise OSError("refused")


@asynccontextmanager
async def _served(database: Database, stack: EmbeddedStack, **options: Any) -> AsyncIterator[str]:
    app = create_app(
        database, _connect, version="0.1.0", admin_key=ADMIN_KEY, redis_url=stack.redis_url, **options
    )
    server = server_for(app, host="127.0.0.1", port=0)
    task = asyncio.create_task(server.serve())
    while not server.started:
        assert not task.done(), "the server did not start"
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


async def _record(record: Record) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with EmbeddedStack(Path(folder), temporal_ui=False, usual_ports=False) as stack:
            await asyncio.to_thread(upgrade, stack.database_url)
            database = Database(stack.database_url)
            async with _served(database, stack, rate_limits=RateLimits(reads=1, reports=1)) as address:
                await asyncio.to_thread(record, "limited", address)
            async with _served(database, stack, request_seconds=0.5) as address:
                async with database.transaction() as session:
                    await session.execute(text("LOCK TABLE event_log, events IN ACCESS EXCLUSIVE MODE"))
                    await asyncio.to_thread(record, "slow", address)
                await asyncio.to_thread(record, "without Temporal", address)
                assert stack.postgres is not None
                await stack.postgres.kill()
                await asyncio.to_thread(record, "without PostgreSQL", address)
                await stack.postgres.start()
            await database.close()


def record_failures(record: Record) -> None:
    """Calls `record` with what fails and where."""
    asyncio.run(_record(record))

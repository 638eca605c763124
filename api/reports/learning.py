"""Keeps a process's limits on labels in step with what all processes have let through today."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from api.server import Server
from domain.errors import OptimizerError
from storage import labels

LEARN_SECONDS = 60.0

log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def learning(server: Server) -> AsyncIterator[None]:
    """Learn from the rollups while the block runs."""
    task = asyncio.create_task(_learn(server))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _learn(server: Server) -> None:
    while True:
        try:
            async with server.database.transaction() as session:
                seen = await labels.used_today(session)
            server.labels.learn(seen, server.snapshot.now_ms())
        except OptimizerError as error:
            log.warning("the labels in use are not known for now: %s", error)
        except Exception:
            log.exception("the labels in use are not known for now")
        await asyncio.sleep(LEARN_SECONDS)

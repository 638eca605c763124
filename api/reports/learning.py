"""Keeps a process's limits on labels in step with what all processes have let through today."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from api.server import Server
from domain.errors import OptimizerError
from storage import labels
from storage.tasks import stop

LEARN_SECONDS = 60.0

log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def learning(server: Server) -> AsyncIterator[None]:
    """Learn from the rollups, at once and then while the block runs."""
    await _learn(server)
    task = asyncio.create_task(_keep_learning(server))
    try:
        yield
    finally:
        await stop([task])


async def _keep_learning(server: Server) -> None:
    while True:
        await asyncio.sleep(LEARN_SECONDS)
        await _learn(server)


async def _learn(server: Server) -> None:
    try:
        async with server.database.transaction() as session:
            async for seen in labels.used_today(session):
                server.labels.learn(seen, server.snapshot.now_ms())
    except OptimizerError as error:
        log.warning("the labels in use are not known for now: %s", error)
    except Exception:
        log.exception("the labels in use are not known for now")

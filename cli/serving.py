"""The API server inside a running event loop, with a socket of its own."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path

from api.app import create_app
from api.serve import server_for
from cli.settings import Settings
from cli.temporal import connect
from domain.errors import DatabaseError
from storage import reconciler
from storage.database import Database

log = logging.getLogger(__name__)

WATCH_SECONDS = 5.0


@contextlib.asynccontextmanager
async def serving(settings: Settings, listener: socket.socket) -> AsyncIterator[asyncio.Task[None]]:
    """Serve the API on a bound socket while the block runs; gives the task, which ends should the server.

    `database_url` and `temporal_address` must be set. At the end, requests under way are finished.
    """
    database = Database(settings.database_url or "")
    key = settings.api_key
    app = create_app(
        database,
        lambda: connect(settings, address=settings.temporal_address or ""),
        version=version("llm-auto-optimizer-server"),
        admin_key=key.get_secret_value() if key else None,
        redis_url=settings.redis_url,
        step_seconds=settings.step_seconds,
        rate_limits=settings.rate_limits,
        data_dir=str(_nearest_folder(settings.data_dir)),
    )
    server = server_for(app)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    watch = asyncio.create_task(_watch_leases(database))
    try:
        up = asyncio.create_task(server.up.wait())
        await asyncio.wait((up, task), return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        yield task
    finally:
        server.should_exit = True
        watch.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)
        await database.close()


def _nearest_folder(path: Path) -> Path:
    """The folder, or the nearest one above it that is there: `serve` alone keeps no data."""
    return next(folder for folder in (path, *path.parents, Path()) if folder.is_dir())


async def _watch_leases(database: Database) -> None:
    """Take back what nobody watches, for as long as Temporal, whose part this is, may be away."""
    while True:
        await asyncio.sleep(WATCH_SECONDS)
        try:
            for note in await reconciler.roll_back_lapsed(database):
                log.warning(note)
        except DatabaseError as error:
            log.warning("leases are not watched: %s", error)
        except Exception:
            # Whatever it is, the next round must come.
            log.exception("leases are not watched")

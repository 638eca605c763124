"""The API server inside a running event loop, with a socket of its own."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path

from api.app import create_app
from api.grpc.server import GrpcServer
from api.serve import server_for
from cli.running import freeze_heap
from cli.settings import Settings
from cli.temporal import connect
from domain.errors import DatabaseError
from storage import reconciler, webhooks
from storage.database import Database

log = logging.getLogger(__name__)

WATCH_SECONDS = 5.0
SYNC_SECONDS = 2.0


@contextlib.asynccontextmanager
async def serving(
    settings: Settings, listener: socket.socket, grpc: GrpcServer | None
) -> AsyncIterator[asyncio.Task[None]]:
    """Serve the API on a bound socket, and gRPC on its own, while the block runs.

    Gives the task, which ends should the server.

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
        webhooks_allow_private=settings.webhooks_allow_private,
        grpc=grpc,
    )
    server = server_for(app)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    beside = [asyncio.create_task(_watch_leases(database)), asyncio.create_task(_sync(database, settings))]
    try:
        up = asyncio.create_task(server.up.wait())
        await asyncio.wait((up, task), return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        freeze_heap()
        yield task
    finally:
        server.should_exit = True
        for other in beside:
            other.cancel()
        await asyncio.gather(task, *beside, return_exceptions=True)
        await database.close()


def _nearest_folder(path: Path) -> Path:
    """The folder, or the nearest one above it that is there: `serve` alone keeps no data."""
    return next(folder for folder in (path, *path.parents, Path()) if folder.is_dir())


async def _sync(database: Database, settings: Settings) -> None:
    """Bring the webhooks to what the settings' file says, as soon as PostgreSQL can be reached."""
    if settings.config is None and settings.webhooks is None:
        return
    while True:
        try:
            async with database.transaction() as session:
                await webhooks.sync_file(session, settings.webhooks or [])
            return
        except DatabaseError as error:
            log.warning("the webhooks of the settings are not taken over yet: %s", error)
        except Exception:
            log.exception("the webhooks of the settings are not taken over yet")
        await asyncio.sleep(SYNC_SECONDS)


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

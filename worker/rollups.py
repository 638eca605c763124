"""Keeps the rollups in step with what arrives."""

import asyncio
import logging

from domain.errors import DatabaseError
from storage import rollups
from storage.database import Database, unreachable_as_database_error

PAUSE_SECONDS = 15.0
"""At most so many seconds of reports, and what arrives meanwhile, are read one by one."""
BUSY_ROWS = 50_000
"""After so many in one go the next follows at once."""
RETRY_SECONDS = 2.0

log = logging.getLogger(__name__)


async def run(database: Database) -> None:
    """Roll up what arrives, for ever; with PostgreSQL away, again once it is back."""
    while True:
        try:
            with unreachable_as_database_error():
                await _roll(database)
        except DatabaseError as error:
            log.warning("reports are not rolled up for now: %s", error)
        except Exception:
            log.exception("reports are not rolled up for now")
        await asyncio.sleep(RETRY_SECONDS)


async def _roll(database: Database) -> None:
    connection = await database.connect(name="llm-optimizer rollups")
    try:
        roller = rollups.Roller(connection)
        while True:
            count = await roller.run()
            await rollups.summarize(connection)
            if count < BUSY_ROWS:
                await asyncio.sleep(PAUSE_SECONDS)
    finally:
        connection.terminate()

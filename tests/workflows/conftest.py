from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from temporalio.client import Client

from activities import checks
from storage.database import Database
from tests.workflows.lab import Hooks, Lab
from worker.run import running_worker


@pytest.fixture(autouse=True)
def no_arrival_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traffic is committed before the look that is to see it: there is no late arrival to wait for."""
    monkeypatch.setattr(checks, "ARRIVAL_MARGIN_MS", 0)


@pytest_asyncio.fixture
async def lab(database: Database, temporal: Client) -> AsyncIterator[Lab]:
    hooks = Hooks()
    config = temporal.config()
    config["interceptors"] = [hooks]
    client = Client(**config)
    async with running_worker(database, client, step_seconds=300, housekeeping=False):
        opened = Lab(database, client, hooks)
        yield opened
        await opened.close()

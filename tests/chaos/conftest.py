"""A stack of its own, so that servers may be stopped and killed without disturbing other tests."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from infra.embedded import EmbeddedStack
from storage.database import Database
from storage.migrations import upgrade
from tests.chaos.loop import Loop


@pytest_asyncio.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedStack]:
    """Servers for one file of tests. Time passes as it does."""
    folder = tmp_path_factory.mktemp("chaos")
    async with EmbeddedStack(folder, temporal_ui=False, usual_ports=False) as started:
        await asyncio.to_thread(upgrade, started.database_url)
        yield started


@pytest_asyncio.fixture
async def temporal(stack: EmbeddedStack) -> AsyncIterator[Client]:
    """A client of the stack's Temporal server. What a test leaves running is terminated."""
    client = await Client.connect(stack.temporal_address, data_converter=pydantic_data_converter)
    yield client
    async for execution in client.list_workflows("ExecutionStatus = 'Running'"):
        await client.get_workflow_handle(execution.id).terminate()


@pytest.fixture
def loop(database: Database, temporal: Client) -> Loop:
    """Services, runs and rollouts on the stack."""
    return Loop(database, temporal)

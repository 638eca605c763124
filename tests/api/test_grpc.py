"""gRPC: the reads and the intake of REST, by another way."""

from collections.abc import AsyncIterator

import pytest_asyncio

from api.grpc.optimizer_pb2 import ConfigRequest
from storage.database import Database
from tests.api.conftest import Served
from tests.api.grpc_client import Both, served_both
from tests.storage.records import first_config


@pytest_asyncio.fixture
async def both(served: Served, database: Database) -> AsyncIterator[Both]:
    await first_config(database, "global", "gpt-4o")
    async with served_both(served) as opened:
        yield opened


async def test_get(both: Both) -> None:
    answer = await both.grpc.GetConfig(ConfigRequest(service="chat"))
    assert answer.version == "global@1"

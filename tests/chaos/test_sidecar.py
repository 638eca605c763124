"""Reports through a sidecar while it, and its server, are killed: each is there once."""

import asyncio
from pathlib import Path

import httpx
import pytest

from infra.embedded import EmbeddedStack
from storage.database import Database
from tests.api.answers import done
from tests.api.conftest import CONFIG
from tests.chaos.processes import API_KEY, api_process, sidecar_process
from tests.chaos.reporters import reporters, stored
from tests.chaos.test_ingest import up
from tests.waiting import until

pytestmark = pytest.mark.alone

CURRENT = "/api/v1/config/current"
RATE = 2_000
BATCHES = 300


@pytest.mark.usefixtures("database")
async def test_killing_both_loses_nothing_and_counts_nothing_twice(
    stack: EmbeddedStack, database: Database, tmp_path: Path
) -> None:
    async with (
        api_process(stack, tmp_path) as (api, upstream),
        sidecar_process(stack, tmp_path, upstream) as (sidecar, address),
        reporters(address) as load,
        httpx.AsyncClient(base_url=upstream, headers={"Authorization": f"Bearer {API_KEY}"}) as server,
    ):
        await up(server)
        await up(load.client)
        done(await server.post("/api/v1/config/update", json={"config": CONFIG, "reason": "first"}))
        served = done(await load.client.get(CURRENT))
        running = asyncio.create_task(load.run(BATCHES, RATE))
        for share in (0.2, 0.4, 0.6, 0.8):
            await load.until_acknowledged(int(BATCHES * share))
            await api.kill()
            assert done(await load.client.get(CURRENT)) == served
            await load.until_acknowledged(int(BATCHES * (share + 0.1)))
            await sidecar.kill()
            await sidecar.start()
            await up(load.client)
            assert done(await load.client.get(CURRENT)) == served
            await api.start()
        await running
        # Whoever reports met no refusal, but for a sidecar that was not there.
        assert load.refused == []

        async def delivered() -> bool:
            status = done(await load.client.get("/api/v1/status"))
            return bool(status["spool"]["items"] == 0)

        await until(delivered)
        connection = await database.connect()
        assert await stored(connection) == list(range(BATCHES))
        await connection.close()


async def test_a_sidecar_that_is_to_end_answers_and_delivers_first(
    stack: EmbeddedStack, database: Database, tmp_path: Path
) -> None:
    async with (
        api_process(stack, tmp_path) as (_, upstream),
        sidecar_process(stack, tmp_path, upstream) as (sidecar, address),
        reporters(address) as load,
        httpx.AsyncClient(base_url=upstream) as server,
    ):
        await up(server)
        await up(load.client)
        for number in range(10):
            await load.send(number)
        assert await sidecar.terminate() == 0
        connection = await database.connect()
        assert await stored(connection) == list(range(10))
        await connection.close()

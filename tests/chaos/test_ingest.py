"""Reports under fire: what was acknowledged after its commit is there, and nothing is there twice."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from datetime import date
from pathlib import Path
from typing import TypeAlias

import asyncpg
import httpx
import pytest
import pytest_asyncio

from infra.embedded import EmbeddedStack
from storage.database import Database
from storage.intake import EARLY_CAPACITY
from storage.partitions import drop_partitions
from tests.api.answers import refused
from tests.chaos.processes import api_process
from tests.chaos.reporters import BATCH, Reporters, reporters, stored
from tests.storage.calls import roll_up
from tests.storage.clocks import settable_clock
from tests.waiting import until

pytestmark = pytest.mark.alone

RATE = 10_000
BATCHES = 250

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@pytest_asyncio.fixture
async def connection(database: Database) -> AsyncIterator[Connection]:
    opened = await database.connect()
    yield opened
    await opened.close()


async def up(client: httpx.AsyncClient) -> None:
    async def ready() -> bool:
        try:
            return (await client.get("/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    await until(ready)


async def test_an_api_killed_under_load_has_lost_nothing_that_it_acknowledged(
    stack: EmbeddedStack, connection: Connection, tmp_path: Path
) -> None:
    async with api_process(stack, tmp_path) as (api, address), reporters(address) as load:
        await up(load.client)
        running = asyncio.create_task(load.run(BATCHES, RATE))
        for share in (0.3, 0.6):
            await load.until_acknowledged(int(BATCHES * share))
            await api.kill()
            known = list(load.acknowledged)
            assert set(known) <= set(await stored(connection))
            await api.start()
        await running
    assert sorted(load.acknowledged) == list(range(BATCHES))
    assert await stored(connection) == list(range(BATCHES))


async def test_an_api_killed_with_a_full_buffer_has_lost_the_latest_and_no_more_than_its_bound(
    stack: EmbeddedStack, connection: Connection, tmp_path: Path
) -> None:
    async with api_process(stack, tmp_path) as (api, address), reporters(address, "buffer") as load:
        await up(load.client)
        running = asyncio.create_task(load.run(10 * BATCHES, RATE))
        await load.until_acknowledged(BATCHES)
        # The writer gets no further, so that the buffer fills up.
        async with connection.transaction():
            await connection.execute("LOCK TABLE metrics IN ACCESS EXCLUSIVE MODE")
            await until(lambda: _is_full(load))
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await api.kill()
        await until(lambda: _nobody_writes(connection))
        there = await stored(connection)
        known, refusals = list(load.acknowledged), list(load.refused)
        # What is sent again, of old and of late, is stored once.
        sent = range(max(*known, *there) + 1)
        again = sorted({*sent} - {*there}) + there[:20] + there[-20:]
        await api.start()
        await load.run_all(again, RATE)
        assert await api.terminate() == 0
        assert await stored(connection) == list(sent)
    lost = [number for number in known if number not in set(there)]
    assert 0 < len(lost) * BATCH <= EARLY_CAPACITY
    # Answers of one moment may overtake each other.
    latest = known[-len(lost) - 20 :]
    assert set(lost) <= set(latest)
    full = [refused(answer, 429, "RATE_LIMITED") for answer in refusals]
    assert len(full) > 0
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refusals)


async def _is_full(load: Reporters) -> bool:
    return bool(load.refused)


async def _nobody_writes(connection: Connection) -> bool:
    writing = (
        "SELECT count(*) FROM pg_stat_activity WHERE state <> 'idle' AND pid <> pg_backend_pid() "
        "AND backend_type = 'client backend'"
    )
    return bool(await connection.fetchval(writing) == 0)


async def test_an_api_that_is_told_to_end_writes_its_buffer_first(
    stack: EmbeddedStack, connection: Connection, tmp_path: Path
) -> None:
    async with api_process(stack, tmp_path) as (api, address), reporters(address, "buffer") as load:
        await up(load.client)
        running = asyncio.create_task(load.run(10 * BATCHES, RATE))
        await load.until_acknowledged(BATCHES)
        assert await api.terminate() == 0
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert set(load.acknowledged) <= set(await stored(connection))


@pytest.mark.parametrize("ack", ["commit", "buffer"])
async def test_a_postgresql_that_goes_and_comes_back_under_load_costs_nothing_but_time(
    stack: EmbeddedStack, database: Database, tmp_path: Path, ack: str
) -> None:
    assert stack.postgres is not None
    async with api_process(stack, tmp_path) as (api, address), reporters(address, ack) as load:
        await up(load.client)
        running = asyncio.create_task(load.run(BATCHES, RATE))
        await load.until_acknowledged(BATCHES // 4)
        await stack.postgres.stop()
        if ack == "commit":
            await until(lambda: _is_full(load))
        await stack.postgres.start()
        await load.until_acknowledged(BATCHES // 2)
        await stack.postgres.kill()
        await stack.postgres.start()
        await running
        assert await api.terminate() == 0
    for answer in load.refused:
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) in ((503, "DATABASE_ERROR"), (429, "RATE_LIMITED"))
        assert error["retryable"] is True
        assert int(answer.headers["retry-after"]) >= 1
    connection = await database.connect()
    assert await stored(connection) == sorted(load.acknowledged) == list(range(BATCHES))
    await connection.close()


async def test_a_partition_that_goes_under_load_is_made_again(
    stack: EmbeddedStack, connection: Connection, tmp_path: Path
) -> None:
    async with api_process(stack, tmp_path) as (_, address), reporters(address) as load:
        await up(load.client)
        running = asyncio.create_task(load.run(BATCHES, RATE))
        await load.until_acknowledged(BATCHES // 2)
        # Those under way may go with it or come after it.
        before = set(load.acknowledged) | set(await stored(connection))
        await drop_partitions(connection, date(9999, 12, 31))
        await running
    assert load.refused == []
    there = set(await stored(connection))
    assert len(there) >= len(load.acknowledged) - len(before) - 20 > 0
    assert set(load.acknowledged[len(before) + 20 :]) <= there


@pytest.mark.parametrize("ack", ["commit", "buffer"])
async def test_a_clock_that_jumps_ahead_and_back_under_load_costs_nothing(
    stack: EmbeddedStack,
    connection: Connection,
    database: Database,
    tmp_path: Path,
    ack: str,
) -> None:
    async with settable_clock(connection) as clock:
        async with api_process(stack, tmp_path) as (api, address), reporters(address, ack) as load:
            await up(load.client)
            running = asyncio.create_task(load.run(3 * BATCHES, RATE))
            await load.until_acknowledged(BATCHES)
            # Of the days that there are partitions for none is so far ahead.
            await clock.set(days_ahead=5)
            await roll_up(database)
            await load.until_acknowledged(2 * BATCHES)
            await clock.set(days_ahead=0)
            await running
            await roll_up(database)
            await load.run_all(range(3 * BATCHES, 4 * BATCHES), RATE)
            assert await api.terminate() == 0
        assert load.refused == []
        assert await stored(connection) == sorted(load.acknowledged) == list(range(4 * BATCHES))
        latest = f"SELECT max(received_at) < now() FROM metrics WHERE request_id LIKE '{4 * BATCHES - 1}-%'"
        assert await connection.fetchval(latest)
        await asyncio.sleep(1.2)  # beyond the margin, within which nothing is rolled up at all
        await roll_up(database)
        counted = """
            SELECT (SELECT sum(n) FROM rollup_minutes)
                 + (SELECT count(*) FROM metrics, rollup_progress WHERE received_at >= requests_until)
        """
        assert await connection.fetchval(counted) == 4 * BATCHES * BATCH


@pytest.fixture
def small_disk(stack: EmbeddedStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system of 8 MB that PostgreSQL may write to."""
    assert stack.postgres is not None
    folder = stack.data_dir / "small"
    folder.mkdir()
    mounted = [] if shutil.which("mount") is None or os.geteuid() != 0 else ["mount", "-t", "tmpfs"]
    if not mounted or subprocess.run([*mounted, "-o", "size=8m", "tmpfs", folder], check=False).returncode:
        pytest.skip("file systems cannot be mounted here")
    if stack.postgres.account is not None:
        os.chown(folder, stack.postgres.account.uid, stack.postgres.account.gid)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def _enlarge(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=256m", folder], check=True)


async def test_a_full_disk_refuses_as_retryable_until_there_is_room(
    stack: EmbeddedStack, connection: Connection, small_disk: Path, tmp_path: Path
) -> None:
    await drop_partitions(connection, date(9999, 12, 31))
    await connection.execute(f"CREATE TABLESPACE small LOCATION '{small_disk}'")
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"ALTER DATABASE {name} SET default_tablespace = small")
    try:
        async with api_process(stack, tmp_path) as (api, address), reporters(address) as load:
            await up(load.client)
            running = asyncio.create_task(load.run(6 * BATCHES, 5 * RATE))
            await until(lambda: _is_full(load))
            assert len(load.acknowledged) < 6 * BATCHES
            await asyncio.to_thread(_enlarge, small_disk)
            await running
            assert await api.terminate() == 0
        for answer in load.refused:
            assert "no space left" in refused(answer, 503, "DATABASE_ERROR")["message"]
            assert int(answer.headers["retry-after"]) >= 1
        assert await stored(connection) == list(range(6 * BATCHES))
    finally:
        await connection.execute(f"ALTER DATABASE {name} RESET default_tablespace")
        await drop_partitions(connection, date(9999, 12, 31))
        await connection.execute("DROP TABLESPACE small")

"""Many bad clients at once against `llm-optimizer serve`: its memory stays bounded, and others are served."""

import asyncio
import gzip
import resource
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import httpx
import psutil
import pytest
import pytest_asyncio

from bench.canaries import serve_control
from bench.replicas import Replicas, replicas
from tests.api.answers import done, refused
from tests.api.wire import Wire, get, post, wire
from tests.waiting import until

pytestmark = pytest.mark.alone

METRICS, CURRENT = "/api/v1/metrics", "/api/v1/config/current"
MB = 2**20
BODY_BYTES = 10 * MB
CHUNK = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
REPORT = {
    "service": "chat",
    "endpoint": "/chat",
    "provider": "openai",
    "model": "gpt-4o",
    "latencyMs": 812.5,
    "tokensInput": 100,
    "tokensOutput": 50,
    "tokensTotal": 150,
    "costUsd": 0.002,
    "statusCode": 200,
}


@pytest_asyncio.fixture(scope="module")
async def where() -> AsyncIterator[Replicas]:
    """A server process with a configuration, over a stack of its own."""
    async with replicas(1, redis=False, temporal=False) as started:
        await serve_control(started.database, "global")
        client = started.clients[0]

        async def configured() -> bool:
            return (await client.get(CURRENT)).is_success

        await until(configured)
        await require_served(client)
        yield started


async def require_served(client: httpx.AsyncClient) -> None:
    """A read and a report that others than the bad clients make."""
    assert done(await client.get(CURRENT))["version"] == "global@1"
    batch = {"metrics": [REPORT | {"timestamp": time.time_ns() // 1_000_000}]}
    assert done(await client.post(METRICS, json=batch)) == {"accepted": 1, "rejected": 0}
    done(await client.get("/api/v1/services"))


@asynccontextmanager
async def growing_by_less_than(where: Replicas, limit: float) -> AsyncIterator[None]:
    """Watch the process's memory within the block, in which others go on being served."""
    process = psutil.Process(where.processes[0].pid)
    before = most = process.memory_info().rss

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, process.memory_info().rss)
            await asyncio.sleep(0.02)

    async def ask() -> None:
        while True:
            done(await where.clients[0].get(CURRENT))
            done(await where.clients[0].get("/api/v1/services"))
            await asyncio.sleep(0.02)

    async with asyncio.TaskGroup() as beside:
        tasks = [beside.create_task(watch()), beside.create_task(ask())]
        yield
        await require_served(where.clients[0])
        for task in tasks:
            task.cancel()
    assert (most - before) / MB < limit


async def opened(where: Replicas, number: int, stack: AsyncExitStack) -> list[Wire]:
    url = where.clients[0].base_url
    return [await stack.enter_async_context(wire(url)) for _ in range(number)]


async def test_thousands_of_connections_that_wait(where: Replicas) -> None:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    number = min(3000, (files - 300) // 3 * 3)
    starts = (
        b"",
        get(CURRENT)[:-2],
        post(METRICS, more=f"Content-Length: {BODY_BYTES}\r\n", key=where.key) + b"{",
    )
    async with growing_by_less_than(where, 60), AsyncExitStack() as stack:
        for start in starts:
            for connection in await opened(where, number // 3, stack):
                await connection.send(start)
        await require_served(where.clients[0])


async def test_compressed_bodies_are_not_unpacked(where: Replicas) -> None:
    bomb = gzip.compress(b" " * 100 * MB)
    more = f"Content-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n"
    async with growing_by_less_than(where, 20), AsyncExitStack() as stack:
        for connection in await opened(where, 50, stack):
            answer = await connection.ask(post(METRICS, more=more, key=where.key) + bomb)
            refused(answer, 415, "INVALID_REQUEST")


async def test_bodies_without_end(where: Replicas) -> None:
    head = post(METRICS, more="Transfer-Encoding: chunked\r\n", key=where.key)

    async def pour(connection: Wire) -> int:
        await connection.send(head)
        sending = asyncio.create_task(endless(connection, CHUNK))
        answer = await connection.answer()
        sending.cancel()
        with suppress(asyncio.CancelledError, ConnectionError):
            await sending
        return answer.status_code

    async with growing_by_less_than(where, 120), AsyncExitStack() as stack:
        statuses = await asyncio.gather(*map(pour, await opened(where, 40, stack)))
    # Each alone would be too large; together they are before that.
    assert set(statuses) <= {413, 503}
    assert 503 in statuses


async def endless(connection: Wire, data: bytes) -> None:
    while True:
        await connection.send(data)


async def test_heads_and_strangers_bodies_without_end(where: Replicas) -> None:
    starts = (
        (b"GET / HTTP/1.1\r\nA: ", b"a" * 10_000, 431),
        (b"GET /", b"a" * 10_000, 431),
        (post(METRICS, more="Transfer-Encoding: chunked\r\n", key="none"), CHUNK, 401),
    )

    async def pour(connection: Wire, start: bytes, more: bytes) -> int:
        await connection.send(start)
        sending = asyncio.create_task(endless(connection, more))
        answer = await connection.answer()
        await connection.ended()
        sending.cancel()
        with suppress(asyncio.CancelledError, ConnectionError):
            await sending
        return answer.status_code

    async with growing_by_less_than(where, 20), AsyncExitStack() as stack:
        for start, more, status in starts:
            pouring = [pour(one, start, more) for one in await opened(where, 30, stack)]
            assert set(await asyncio.gather(*pouring)) == {status}

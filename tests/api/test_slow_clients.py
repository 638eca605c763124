"""Clients that are slow, endless or many: each is ended in time with an error that says so, others go on."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import httpx
import pytest
import pytest_asyncio

from api.connections import Limits
from tests.api.answers import done, refused
from tests.api.conftest import ADMIN_KEY, Served
from tests.api.wire import Wire, get, post, wire

METRICS, LIVE = "/api/v1/metrics", "/livez"
LIMITS = Limits(connections=8, head_bytes=4096, head_seconds=0.5, idle_seconds=0.3, taking_seconds=1)
CHUNKED = "Transfer-Encoding: chunked\r\n"


@pytest_asyncio.fixture
async def server(served: Served) -> AsyncIterator[httpx.URL]:
    """The address of a server with little patience, which answers others as ever at the end."""
    async with served(limits=LIMITS, request_seconds=1.0, max_body_bytes=100_000) as client:
        yield client.base_url
        done(await client.get(LIVE))


async def trickle(connection: Wire, data: bytes, at_once: int = 1) -> bytes:
    """Send some bytes at a time until the server ends the connection; what it said before."""

    async def send() -> None:
        while True:
            for at in range(0, len(data), at_once):
                await connection.send(data[at : at + at_once])
                await asyncio.sleep(0.01)

    sending = asyncio.create_task(send())
    try:
        return await connection.ended()
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


def parsed(answer: bytes) -> httpx.Response:
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
    return httpx.Response(int(status.split(" ")[1]), headers=headers, content=body)


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\nA: " + b"a" * 3000, b"GET /" + b"a" * 3000])
async def test_a_head_that_does_not_end_is_a_timeout(server: httpx.URL, data: bytes) -> None:
    async with wire(server) as connection:
        answer = parsed(await trickle(connection, data))
    refused(answer, 408, "TIMEOUT")
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("data", [b"", b"\r\n"])
async def test_who_asks_nothing_is_not_kept(server: httpx.URL, data: bytes) -> None:
    async with wire(server) as connection:
        assert await trickle(connection, data) == b"" if data else await connection.ended() == b""
    async with wire(server) as connection:
        assert (await connection.ask(get(LIVE))).is_success
        assert await trickle(connection, data) == b"" if data else await connection.ended() == b""


@pytest.mark.parametrize(
    "head",
    [
        get(f"/{'a' * 5000}"),
        get("/", more=f"A: {'a' * 5000}\r\n"),
        get("/", more="A: a\r\n" * 1000),
        get("/api/v1/config/current", more="A: a\r\n" * 1000),
        b"GET / HTTP/1.1\r\nA: " + b"a" * 5000,
        b"GET /" + b"a" * 5000,
        b"GET / HTTP/1.1\r\n" + b"a" * 5000,
    ],
)
async def test_a_head_that_is_too_large_is_refused(server: httpx.URL, head: bytes) -> None:
    for cut in (len(head), 1000):
        async with wire(server) as connection:
            for at in range(0, len(head), cut):
                await connection.send(head[at : at + cut])
            refused(parsed(await connection.ended()), 431, "INVALID_REQUEST")


async def test_a_head_just_within_the_limit_is_read(server: httpx.URL) -> None:
    async with wire(server) as connection:
        for _ in range(2):
            body = b"x" * 90_000
            head = post(METRICS, more=f"A: {'a' * 3800}\r\nContent-Length: {len(body)}\r\n")
            refused(await connection.ask(head + body), 400, "INVALID_REQUEST")


@pytest.mark.parametrize(
    "garbage",
    [b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"GET /\xff HTTP/1.1\r\n\r\n"],
)
async def test_what_is_not_http_is_told_so(server: httpx.URL, garbage: bytes) -> None:
    async with wire(server) as connection:
        await connection.send(garbage)
        refused(parsed(await connection.ended()), 400, "INVALID_REQUEST")


@pytest.mark.parametrize(
    ("more", "body"),
    [
        ("Content-Length: 100000\r\n", b"{"),
        (CHUNKED, b"1\r\n{\r\n"),
        (CHUNKED, b"1;" + b"a" * 1000 + b"\r\n{\r\n"),
        (CHUNKED, b"1\r\n{\r\n0\r\nA: " + b"a" * 3000),
    ],
)
async def test_a_body_that_trickles_in_is_not_waited_for(server: httpx.URL, more: str, body: bytes) -> None:
    async with wire(server) as connection:
        await connection.send(post(METRICS, more=more))
        refused(parsed(await trickle(connection, body)), 504, "TIMEOUT")


async def test_a_body_is_not_taken_from_who_was_answered(server: httpx.URL) -> None:
    stranger = post(METRICS, more="Content-Length: 90000\r\n").replace(ADMIN_KEY.encode(), b"nobody")
    async with wire(server) as connection:
        await connection.send(stranger)
        refused(parsed(await trickle(connection, b"x")), 401, "UNAUTHORIZED")


@pytest.mark.parametrize("before", [b"1\r\n{\r\n0\r\nA: ", b"1\r\n{\r\n1;"])
async def test_what_goes_with_chunks_is_bounded(served: Served, before: bytes) -> None:
    async with served(limits=LIMITS) as client, wire(client.base_url) as connection:
        await connection.send(post(METRICS, more=CHUNKED) + before)
        refused(parsed(await trickle(connection, b"a" * 1000, at_once=1000)), 431, "INVALID_REQUEST")


async def test_chunks_without_end_are_refused_at_the_limit(server: httpx.URL) -> None:
    chunk = b"2710\r\n" + b"x" * 10_000 + b"\r\n"
    async with wire(server) as connection:
        await connection.send(post(METRICS, more=CHUNKED) + chunk * 11)
        refused(await connection.answer(), 413, "INVALID_REQUEST")


async def test_all_bodies_together_are_bounded(served: Served) -> None:
    async with served(max_bodies_bytes=100_000) as client, AsyncExitStack() as opened:
        waiting = await opened.enter_async_context(wire(client.base_url))
        await waiting.send(post(METRICS, more="Content-Length: 90000\r\n") + b"x" * 80_000)
        body = b" " * 30_000
        headers = {"Content-Type": "application/json"}
        async with asyncio.timeout(60):
            answer = await client.post(METRICS, content=body, headers=headers)
            while answer.status_code == httpx.codes.BAD_REQUEST:
                answer = await client.post(METRICS, content=body, headers=headers)
        refused(answer, 503, "SERVICE_UNAVAILABLE")
        assert answer.headers["retry-after"] == "1"
        await waiting.send(b"x" * 10_000)
        refused(await waiting.answer(), 400, "INVALID_REQUEST")
        refused(await client.post(METRICS, content=body, headers=headers), 400, "INVALID_REQUEST")


async def test_idle_connections_make_room(served: Served) -> None:
    patient = Limits(connections=8, head_seconds=60, idle_seconds=60)
    async with served(limits=patient) as client, AsyncExitStack() as opened:
        first = await opened.enter_async_context(wire(client.base_url))
        assert (await first.ask(get(LIVE))).is_success
        for _ in range(20):
            newest = await opened.enter_async_context(wire(client.base_url))
            assert (await newest.ask(get(LIVE))).is_success
        assert await first.ended() == b""
        assert (await newest.ask(get(LIVE))).is_success


async def test_busy_connections_make_no_room(served: Served) -> None:
    limits = Limits(connections=4)
    async with served(limits=limits) as client, AsyncExitStack() as opened:
        busy = [await opened.enter_async_context(wire(client.base_url)) for _ in range(4)]
        for connection in busy:
            await connection.send(post(METRICS, more="Content-Length: 2\r\nExpect: 100-continue\r\n"))
            assert (await connection.answer()).status_code == 100
        async with wire(client.base_url) as other:
            answer = parsed(await other.ended())
            refused(answer, 503, "SERVICE_UNAVAILABLE")
            assert answer.headers["retry-after"] == "1"
        for connection in busy:
            refused(await connection.ask(b"{}"), 400, "INVALID_REQUEST")


async def test_who_does_not_take_his_answers_is_dropped(server: httpx.URL) -> None:
    async with wire(server) as connection:
        await connection.send(get("/openapi.json") * 100)
        with pytest.raises(ConnectionError):
            await until_dropped(connection)


async def until_dropped(connection: Wire) -> None:
    async with asyncio.timeout(60):
        while True:
            await connection.send(get(LIVE) * 100)
            await asyncio.sleep(0.05)


async def test_a_compressed_body_is_refused_and_not_unpacked(server: httpx.URL) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    async with wire(server) as connection:
        more = f"Content-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n"
        refused(await connection.ask(post(METRICS, more=more) + bomb), 415, "INVALID_REQUEST")

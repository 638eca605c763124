"""A sidecar in this process, and a server that is none."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from api.serve import server_for
from api.sidecar.app import create_sidecar
from api.sidecar.spool import Bounds
from api.sidecar.writer import Writer
from tests.api.conftest import ADMIN_KEY

AMPLE = Bounds(items=100_000, bytes=64 * 1024 * 1024)


@asynccontextmanager
async def sidecar(
    upstream: str, folder: Path, *, bounds: Bounds = AMPLE, service: str | None = None, key: str = ADMIN_KEY
) -> AsyncIterator[httpx.AsyncClient]:
    """A sidecar of a server, and a client of it without a key."""
    writer = await Writer.open(folder / "spool.db", bounds)
    app = create_sidecar(upstream, writer, version="1.2.3", api_key=key, service=service)
    server = server_for(app)
    task = asyncio.create_task(server.serve())
    while not server.started:
        assert not task.done(), "the sidecar did not start"
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield client
    finally:
        server.should_exit = True
        await task


@dataclass
class Asked:
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Faulty:
    """Answers each request with the bytes that `answer` gives for it; without any it only hangs up."""

    answer: Callable[[Asked], Awaitable[bytes]]
    url: str = ""
    asked: list[Asked] = field(default_factory=list)

    def posts(self) -> list[Asked]:
        return [one for one in self.asked if one.method == "POST"]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(await self.answer(await self._read(reader)))
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _read(self, reader: asyncio.StreamReader) -> Asked:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        method, path, _ = first.split(" ")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.asked.append(Asked(method, path, headers, body))
        return self.asked[-1]


def http(body: bytes, status: str = "200 OK", kind: str = "application/json") -> bytes:
    """An answer, after which the connection ends."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close"
    return head.encode() + b"\r\n\r\n" + body


@asynccontextmanager
async def faulty(answer: Callable[[Asked], Awaitable[bytes]]) -> AsyncIterator[Faulty]:
    """Such a server on loopback."""
    peer = Faulty(answer)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(peer.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    peer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield peer
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def spooled(client: httpx.AsyncClient) -> dict[str, int]:
    """What `/status` says of the spool."""
    found: dict[str, int] = (await client.get("/api/v1/status")).json()["spool"]
    return found

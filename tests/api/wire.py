"""HTTP/1.1 byte by byte, for requests that no client library would send."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx

from tests.api.conftest import ADMIN_KEY

SECONDS = 60


def get(target: str, *, more: str = "", key: str = ADMIN_KEY) -> bytes:
    """A GET by a key, the admin's if none is given."""
    return _request("GET", target, more, key)


def post(target: str, *, more: str, key: str = ADMIN_KEY) -> bytes:
    """The head of a POST of JSON."""
    return _request("POST", target, f"Content-Type: application/json\r\n{more}", key)


def _request(method: str, target: str, more: str, key: str) -> bytes:
    lines = f"{method} {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n{more}\r\n"
    return lines.encode("latin-1")


class Wire:
    """A connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def ask(self, request: bytes) -> httpx.Response:
        """The answer to a request."""
        await self.send(request)
        return await self.answer()

    async def answer(self) -> httpx.Response:
        """The next answer."""
        async with asyncio.timeout(SECONDS):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            status, *lines = head.strip().split("\r\n")
            fields = [line.split(": ", 1) for line in lines]
            headers = httpx.Headers([(name, value) for name, value in fields])
            body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        return httpx.Response(int(status.split(" ")[1]), headers=headers, content=body)

    async def ended(self) -> bytes:
        """What comes before the server ends the connection, by a reset maybe."""
        came = b""
        async with asyncio.timeout(SECONDS):
            with suppress(ConnectionError):
                while part := await self._reader.read(65_536):
                    came += part
        return came

    async def close(self) -> None:
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()


@asynccontextmanager
async def wire(url: httpx.URL) -> AsyncIterator[Wire]:
    """A connection to a server, closed with the block."""
    opened = Wire(*await asyncio.open_connection(url.host, url.port))
    try:
        yield opened
    finally:
        await opened.close()

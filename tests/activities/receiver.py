"""An endpoint for webhooks: a real HTTP server that keeps what it gets and answers as a test says."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Received:
    """A request, header names in lower case; `at` is when it came, in seconds of some clock."""

    at: float
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def scope(self) -> str:
        return str(self.json["scope"])

    @property
    def number(self) -> int:
        """The number that `tests.storage.hooks` gives each event."""
        return int(self.json["data"]["number"])


@dataclass(frozen=True)
class Answer:
    """What to answer; `hang` is to be silent, `missing` how many bytes of the body are never sent."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"ok"
    hang: bool = False
    missing: int = 0


Decide = Callable[[Received], Awaitable[Answer] | Answer]


class Receiver:
    """`taken` is what was answered with a success, `received` all there was; empty without `keep`."""

    def __init__(self, *, keep: bool = True) -> None:
        self._keep = keep
        self.received: list[Received] = []
        self.taken: list[Received] = []
        self.decide: Decide = lambda request: Answer()
        self.connections = 0
        self.port = 0
        self._server: asyncio.Server | None = None
        self._changed = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?from=optimizer"

    async def start(self) -> None:
        """Listen; again on the same port after it was stopped."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Go away without a word: connections are reset, whatever is under way in them."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()

    async def until(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        """Until a condition on what was received holds; fail where it does not in time."""
        async with asyncio.timeout(seconds):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self.connections += 1
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._exchange(reader, writer):
                    pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request_line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        method, target, _ = request_line.split(" ")
        assert method == "POST"
        request = Received(
            asyncio.get_running_loop().time(),
            target,
            headers,
            await reader.readexactly(int(headers["content-length"])),
        )
        if self._keep:
            self.received.append(request)
        self._changed.set()
        decided = self.decide(request)
        answer = decided if isinstance(decided, Answer) else await decided
        if answer.hang:
            await reader.read()
            return False
        if self._keep and 200 <= answer.status < 300:
            self.taken.append(request)
        self._changed.set()
        head = [f"HTTP/1.1 {answer.status} Whatever", f"content-length: {len(answer.body) + answer.missing}"]
        head += [f"{name}: {value}" for name, value in answer.headers.items()]
        writer.write("\r\n".join(head).encode() + b"\r\n\r\n" + answer.body)
        await writer.drain()
        return not answer.missing


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver that listens."""
    receiver = Receiver()
    await receiver.start()
    try:
        yield receiver
    finally:
        await receiver.stop()

"""A TCP proxy before Temporal that loses what passes through it, in one direction or the other."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Proxy:
    """Passes bytes on, unless it is told to lose them.

    `lose_requests`: nothing reaches the server. `lose_answers`: it acts, and nobody hears of it. `lost` is
    set once something was.
    """

    def __init__(self, target: str) -> None:
        self.address = ""
        self.lose_requests = False
        self.lose_answers = False
        self.lost = asyncio.Event()
        self._host, _, self._port = target.rpartition(":")
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection(self._host, int(self._port))
        except OSError:
            writer.close()
            return
        self._writers |= {writer, upstream_writer}
        await asyncio.gather(
            self._pass_on(reader, upstream_writer, requests=True),
            self._pass_on(upstream_reader, writer, requests=False),
        )

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, requests: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if self.lose_requests if requests else self.lose_answers:
                    self.lost.set()
                    continue
                writer.write(data)
                await writer.drain()
        writer.close()
        self._writers.discard(writer)

    def close(self) -> None:
        """Break every connection."""
        for writer in self._writers:
            writer.close()


@asynccontextmanager
async def proxy_to(target: str, *, port: int = 0) -> AsyncIterator[Proxy]:
    """A proxy to `host:port`, on a port of its own where none is given."""
    proxy = Proxy(target)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", port)
    host, taken = server.sockets[0].getsockname()
    proxy.address = f"{host}:{taken}"
    try:
        yield proxy
    finally:
        server.close()
        proxy.close()
        await server.wait_closed()

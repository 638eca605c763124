"""How the application is served."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn

from api.app import Application

DRAIN_SECONDS = 15


class ApiServer(uvicorn.Server):
    """A uvicorn server that leaves signals to its caller, and says when it is `up`."""

    def __init__(self, config: uvicorn.Config, draining: asyncio.Event) -> None:
        super().__init__(config)
        self._draining = draining
        self.up = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take no signal."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen."""
        await super().startup(sockets)
        self.up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, and let the requests under way finish."""
        self._draining.set()
        await super().shutdown(sockets)


def server_for(app: Application, *, host: str = "127.0.0.1", port: int = 0) -> ApiServer:
    """A server that is not running yet: `await server.serve()`, and `should_exit = True` to drain and end it.

    Logging is the caller's to set up, and so is the event loop, for which uvloop is meant. `host` and `port`
    do not matter where `serve` is given sockets.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    return ApiServer(config, app.draining)

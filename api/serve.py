"""How the application is served."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Protocol

import uvicorn
from starlette.types import Receive, Scope, Send

from api.connections import AnswerAtOnce, Connection, Connections, Limits, usual_limits

DRAIN_SECONDS = 15
TICKS_PER_SECOND = 10


class Servable(Protocol):
    """An application with what need not come to it."""

    def drain(self) -> None:
        """End its streams."""

    @property
    def answer_at_once(self) -> AnswerAtOnce:
        """Answers plain reads where they arrive."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


class ApiServer(uvicorn.Server):
    """A uvicorn server that leaves signals to its caller, and says when it is `up`."""

    def __init__(self, config: uvicorn.Config, app: Servable, limits: Limits) -> None:
        super().__init__(config)
        self.server_state: Connections = Connections(app.answer_at_once, limits)
        self._drain = app.drain
        self.up = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take no signal."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen."""
        await super().startup(sockets)
        self.up.set()

    async def on_tick(self, counter: int) -> bool:
        """Once a second, end the connections that are overdue."""
        ends = await super().on_tick(counter)
        if counter % TICKS_PER_SECOND == 0:
            self.server_state.render_defaults()
            self.server_state.sweep(asyncio.get_running_loop().time())
        return ends

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, and let the requests under way finish."""
        self._drain()
        await super().shutdown(sockets)


def server_for(
    app: Servable, *, host: str = "127.0.0.1", port: int = 0, limits: Limits | None = None
) -> ApiServer:
    """A server that is not running yet: `await server.serve()`, and `should_exit = True` to drain and end it.

    Logging is the caller's to set up, and so is the event loop, for which uvloop is meant. `host` and `port`
    do not matter where `serve` is given sockets.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=Connection,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    return ApiServer(config, app, limits or usual_limits())

"""The gRPC server: what it listens on, and how it starts, drains and ends."""

import asyncio
import contextlib
import errno
from collections.abc import AsyncIterator, Sequence

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from api.grpc.calls import Calls, Service
from api.grpc.health import Health
from api.server import Server

DRAIN_SECONDS = 15.0

_OPTIONS = (
    # Two servers on one port would each get some of the calls.
    ("grpc.so_reuseport", 0),
    # A peer that is silent for a minute is asked whether it is there, and has 20 seconds to say so.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # A client may ask as much every 10 seconds, whether it has a call under way or not.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    # A connection without calls is let go; a client opens another by itself when it needs one.
    ("grpc.max_connection_idle_ms", 300_000),
)


class GrpcServer:
    """A server with its port, which is bound at once. To be made, and run, in the event loop.

    `max_message_bytes` is what a message may have at most. gRPC itself refuses one that is twice as large,
    with a status of its own and no details.

    Raises:
        OSError: the port is taken.
    """

    def __init__(self, host: str, port: int, *, max_message_bytes: int) -> None:
        options = (*_OPTIONS, ("grpc.max_receive_message_length", 2 * max_message_bytes))
        self._server = grpc.aio.server(options=options)
        shown = f"[{host}]" if ":" in host else host
        try:
            self.port = self._server.add_insecure_port(f"{shown}:{port}")
        except RuntimeError as error:
            raise OSError(errno.EADDRINUSE, f"cannot be bound: {error}") from None

    @contextlib.asynccontextmanager
    async def running(self, calls: Calls, services: Sequence[Service]) -> AsyncIterator[None]:
        """Serve until the block ends or the server drains; to anybody health and reflection as well."""
        server = calls.server
        names = [service.name for service in services]
        health_pb2_grpc.add_HealthServicer_to_server(Health(server, names), self._server)
        reflection.enable_server_reflection(
            (*names, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server
        )
        self._server.add_generic_rpc_handlers([calls.handler(service) for service in services])
        await self._server.start()
        drained = asyncio.create_task(self._drain(server), name="grpc-drain")
        try:
            yield
        finally:
            server.drain()
            await drained

    async def _drain(self, server: Server) -> None:
        """Once the server drains, which health tells first, take no more calls and let the others finish."""
        await server.draining.wait()
        await self._server.stop(DRAIN_SECONDS)

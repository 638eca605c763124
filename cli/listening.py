"""Sockets to listen on."""

import socket
from typing import TYPE_CHECKING

from cli.settings import Settings

if TYPE_CHECKING:
    from api.grpc.server import GrpcServer

BACKLOG = 2048


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        OSError: the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)


def address_of(listener: socket.socket) -> str:
    """The URL at which a client on this machine reaches a listener."""
    host, port = listener.getsockname()[:2]
    return f"http://{_shown(host)}:{port}"


def _shown(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)


def bind_grpc(settings: Settings) -> "GrpcServer | None":
    """A gRPC server that listens, in a running event loop; None where the settings want none.

    Raises:
        OSError: the port is taken.
    """
    if not settings.grpc:
        return None
    # Imported here, so that no other command waits for it.
    from api.app import MAX_BODY_BYTES
    from api.grpc.server import GrpcServer

    # gRPC would say in its own log alone what is wrong with the address.
    bind(settings.host, settings.grpc_port).close()
    return GrpcServer(settings.host, settings.grpc_port, max_message_bytes=MAX_BODY_BYTES)


def grpc_target(host: str, port: int) -> str:
    """What a gRPC client on this machine is given as its target."""
    return f"{_shown(host)}:{port}"

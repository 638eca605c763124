"""Sockets to listen on."""

import errno
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


def bind_loopback(port: int) -> list[socket.socket]:
    """Sockets that listen on one port of this machine, by IPv4 and, where it has that, by IPv6.

    Raises:
        OSError: the port is taken.
    """
    first = bind("127.0.0.1", port)
    if not socket.has_ipv6:
        return [first]
    try:
        return [first, bind("::1", first.getsockname()[1])]
    except OSError as error:
        # What `localhost` means is not to be another program's, whichever address a client takes.
        if error.errno == errno.EADDRINUSE:
            first.close()
            raise
        return [first]


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
    from api.context import MAX_BODY_BYTES
    from api.grpc.server import GrpcServer

    # gRPC would say in its own log alone what is wrong with the address.
    bind(settings.host, settings.grpc_port).close()
    return GrpcServer(settings.host, settings.grpc_port, max_message_bytes=MAX_BODY_BYTES)


def grpc_target(host: str, port: int) -> str:
    """What a gRPC client on this machine is given as its target."""
    return f"{_shown(host)}:{port}"

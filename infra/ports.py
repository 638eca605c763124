"""Free ports on the loopback interface."""

import random
import socket

LOOPBACK = "127.0.0.1"
BELOW_EPHEMERAL = range(20_000, 30_000)
ATTEMPTS = 20


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        # A port that was just given up counts as free, as it does for the servers.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def choose(preferred: int | None) -> int:
    """The preferred port, if there is one and it is free, else any free one.

    That is one below those which the kernel gives to clients, if one is found: while a server is down for a
    restart no client comes to sit on its port. Another process may take it before it is used all the same;
    whoever listens there must be ready to choose anew.
    """
    wanted = [] if preferred is None else [preferred]
    for candidate in (*wanted, *random.sample(BELOW_EPHEMERAL, ATTEMPTS)):
        if is_free(candidate):
            return candidate
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port

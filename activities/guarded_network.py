"""Connections that lead into the internet alone, whatever a name is made to resolve to."""

import asyncio
import socket
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any

import httpcore

from domain.addresses import is_public


class PrivateAddress(Exception):
    """A host has no address that may be connected to."""


class GuardedNetwork(httpcore.AsyncNetworkBackend):
    """Resolves a host itself, and connects to the very addresses that it has checked.

    Looking the name up a second time to connect would let its owner answer differently. With `allow_private`
    every address will do.
    """

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first of the host's addresses that answers.

        Raises:
            PrivateAddress: it has addresses, and none of them is allowed.
            httpcore.ConnectError: it has none, or none answers.
        """
        addresses = await self._allowed(host, port)
        for address in addresses[:-1]:
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self._inner.connect_tcp(addresses[-1], port, timeout, local_address, socket_options)

    async def _allowed(self, host: str, port: int) -> list[str]:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} cannot be resolved: {error}") from error
        addresses = list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
        allowed = [a for a in addresses if self._allow_private or is_public(ip_address(a))]
        if not allowed:
            raise PrivateAddress(
                f"{host} is not in the public internet, and OPTIMIZER_WEBHOOKS_ALLOW_PRIVATE is off"
            )
        return allowed

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Never allowed: it leads to this machine."""
        raise PrivateAddress("a Unix socket is not in the public internet")

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await self._inner.sleep(seconds)

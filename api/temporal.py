"""The API's one Temporal client, connected when it is first needed."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from domain.errors import NotFound, ServiceUnavailable, TimedOut

CONNECT_SECONDS = 5.0

Connect = Callable[[], Awaitable[Client]]


class Temporal:
    """Gives the client, connecting it at the first use and again while that fails."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._client: Client | None = None
        self._lock = asyncio.Lock()

    async def client(self) -> Client:
        """The client.

        Raises:
            ServiceUnavailable: Temporal is out of reach.
        """
        async with self._lock:
            if self._client is None:
                try:
                    async with asyncio.timeout(CONNECT_SECONDS):
                        self._client = await self._connect()
                except (RuntimeError, OSError, TimeoutError) as error:
                    raise ServiceUnavailable("Temporal cannot be reached", retry_after=2) from error
            return self._client


@contextlib.contextmanager
def rpc_errors() -> Iterator[None]:
    """Turn what a call to Temporal raises into errors for the client.

    Raises:
        NotFound: there is no such workflow, or it has ended.
        TimedOut: no worker answered in time.
        ServiceUnavailable: Temporal is out of reach.
    """
    try:
        yield
    except TimeoutError as error:
        raise TimedOut("no worker answered in time", retry_after=2) from error
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            raise NotFound("the workflow is not running") from error
        if error.status in (RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED):
            raise TimedOut("no worker answered in time", retry_after=2) from error
        raise ServiceUnavailable(f"Temporal cannot be reached: {error.message}", retry_after=2) from error

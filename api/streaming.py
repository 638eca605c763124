"""What every stream does: end with the server and with its key, and wait in between."""

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from api.auth import Reader
from api.server import Server, ServerDep


@dataclass(frozen=True, slots=True)
class Stream:
    """An open answer to somebody who may read, by the key in an `Authorization` header."""

    server: Server
    authorization: bytes

    @property
    def open(self) -> bool:
        """Whether it may go on: the server stays, and the key is still good."""
        principal = self.server.authenticator.from_header(self.authorization)
        return not self.server.draining.is_set() and principal is not None and principal.may("read")

    async def wait(self, *events: asyncio.Event, seconds: float | None = None) -> None:
        """Until one of the events is set, the keys may have changed, the server drains, or time is up.

        Take what comes of `Broadcast.next` before looking at what it tells of.
        """
        if not self.open:
            return
        watched = {*events, self.server.snapshot.changed.next()}
        if len(watched) == 1:
            # As with every stream of a configuration, of which there may be thousands.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await watched.pop().wait()
            return
        waiting = [asyncio.ensure_future(event.wait()) for event in watched]
        try:
            await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()


def _stream(request: Request, server: ServerDep, _: Reader) -> Stream:
    return Stream(server, request.headers.get("authorization", "").encode("latin-1"))


StreamDep = Annotated[Stream, Depends(_stream)]

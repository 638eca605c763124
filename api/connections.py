"""HTTP/1.1 as it comes off a connection: bounded where uvicorn is not, and reads answered where they arrive.

uvicorn has no limit on the size of a request's head, on how long one may take to come, nor on what a client
goes on sending after it was answered; and its limit on connections turns away those who ask, because of
those who are idle.
"""

import asyncio
import heapq
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from api.context import lines_of, request_id_from
from api.errors import HeadTooLarge, SlowRequest, error_response
from domain.errors import InvalidRequest, OptimizerError, ServiceUnavailable

MAX_CONNECTIONS = 4096
# What the process has open besides: connections of its own, files.
OTHER_FILES = 256
# The part of them that makes room at a time, lest each newcomer looks for the one that is idle for longest.
EVICTED = 1 / 64

AnswerAtOnce = Callable[[bytes, Sequence[tuple[bytes, bytes]], bytes], bytes | None]
"""Gives the whole answer to a GET by its target, headers, and the lines of the default headers, or None."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may do to the server.

    `head_bytes` and `head_seconds` are of a request's line and headers, or of what follows a chunked body;
    `idle_seconds` are left to an answered client; in `taking_seconds` it must take something of an answer.
    """

    connections: int
    head_bytes: int = 65_536
    head_seconds: float = 10.0
    idle_seconds: float = 5.0
    taking_seconds: float = 60.0


class Connections(ServerState):
    """All connections of a server. `default_lines` are the headers of every answer, as they are sent."""

    def __init__(self, answer_at_once: AnswerAtOnce, limits: Limits) -> None:
        super().__init__()
        self.answer_at_once = answer_at_once
        self.limits = limits
        self.default_lines = b""

    def render_defaults(self) -> None:
        """Keep up with the default headers."""
        self.default_lines = lines_of(self.default_headers)

    def make_room(self, newest: "Connection") -> bool:
        """Whether the newest may stay; where there are too many, those idle for longest go."""
        if len(self.connections) <= self.limits.connections:
            return True
        others = cast("set[Connection]", self.connections) - {newest}
        idle = [one for one in others if not one.busy]
        some = max(1, int(self.limits.connections * EVICTED))
        for one in heapq.nsmallest(some, idle, key=attrgetter("due")):
            one.drop()
        return len(self.connections) <= self.limits.connections

    def sweep(self, now: float) -> None:
        """End what is overdue. To be called every second or so, with the event loop's time."""
        for one in cast("list[Connection]", list(self.connections)):
            one.sweep(now)


def usual_limits() -> Limits:
    """What holds where nothing else is said; no more connections than the process may open files."""
    if sys.platform == "win32":
        return Limits(MAX_CONNECTIONS)
    import resource

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = files == resource.RLIM_INFINITY
    return Limits(MAX_CONNECTIONS if unlimited else max(1, min(MAX_CONNECTIONS, files - OTHER_FILES)))


class _Refused(Exception):
    """Ends the parsing of a request."""


class Connection(HttpToolsProtocol):
    """One connection. Unless it is `busy` with a request, it ends once the loop's time is `due`.

    What the application's shortcut answers is answered here, without a task, an ASGI scope or a cycle.
    """

    server_state: Connections

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: Connections,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits = server_state.limits
        self.due = self.loop.time() + self._limits.head_seconds
        self._answer_at_once = server_state.answer_at_once
        self._answer: bytes | None = None
        self._in_head = False
        # Bytes since a head or a part of a body was whole: an endless header, or trailer, is neither.
        self._unfinished = 0
        self._refusal: OptimizerError | None = None
        self._refused = False
        self._unsent = 0
        self._taken_by = 0.0

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete and not self._refused

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        if not self.server_state.make_room(self):
            self._refuse(ServiceUnavailable("the server has all the connections that it can", retry_after=1))

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._unfinished += len(data)
        super().data_received(data)
        if self._unfinished > self._limits.head_bytes:
            self._refuse(self._too_large())

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._refusal or InvalidRequest("this is not HTTP/1.1 as it should be"))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self.due = self.loop.time() + self._limits.head_seconds

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers come here too, and nobody asks for them.
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        most = self._limits.head_bytes
        if self._unfinished > most and self._head_bytes() > most:
            self._refusal = self._too_large()
            raise _Refused
        self._unfinished = 0
        if self._is_plain():
            self._answer = self._answer_at_once(self.url, self.headers, self.server_state.default_lines)
        if self._answer is None:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unfinished = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unfinished = 0
        if self._answer is None:
            super().on_message_complete()
            return
        self.transport.write(self._answer)
        self._answer = None
        self.server_state.total_requests += 1
        self.due = self.loop.time() + self._limits.idle_seconds

    def on_response_complete(self) -> None:
        # The rest of a body that nobody waited for may come for as long.
        self.due = self.loop.time() + self._limits.idle_seconds
        super().on_response_complete()

    def shutdown(self) -> None:
        if self._refused:
            self.transport.close()
        else:
            super().shutdown()

    def sweep(self, now: float) -> None:
        """End the connection if it is overdue."""
        unsent = self.transport.get_write_buffer_size()
        if unsent:
            if unsent != self._unsent:
                self._taken_by = now + self._limits.taking_seconds
            elif now >= self._taken_by:
                self.drop()
        elif now >= self.due and not self.busy:
            self._end()
        self._unsent = unsent

    def drop(self) -> None:
        """End the connection, whatever was not sent yet."""
        self.connections.discard(self)
        self.transport.abort()

    def _end(self) -> None:
        if self._in_head and not self._refused:
            self._refuse(SlowRequest(f"the request's head took longer than {self._limits.head_seconds:g} s"))
        else:
            self.transport.close()

    def _is_plain(self) -> bool:
        """Whether a GET is neither behind another request nor the last of its connection."""
        parser = self.parser
        return (
            parser.get_method() == b"GET"
            and parser.should_keep_alive()
            and parser.get_http_version() == "1.1"
            and not self.busy
            and not self.flow.write_paused
        )

    def _head_bytes(self) -> int:
        # Each header comes with a colon, a space and the end of its line.
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _too_large(self) -> OptimizerError:
        return HeadTooLarge(f"the request's line and headers are larger than {self._limits.head_bytes} bytes")

    def _refuse(self, error: OptimizerError) -> None:
        """Answer in place of the application, unless it has begun to, and end the connection.

        Closed at once, with bytes unread, it would be reset, and the answer with it: these are let come and
        go for a while.
        """
        if self.transport.is_closing():
            return
        if self.busy and (self.cycle.response_started or self.pipeline):
            self.transport.close()
            return
        if self.busy:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._refused = True
        self.due = self.loop.time() + self._limits.idle_seconds
        self.flow.resume_reading()
        self.transport.write(_rendered(error, self.server_state.default_lines))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()


def _rendered(error: OptimizerError, default_lines: bytes) -> bytes:
    request_id = request_id_from(b"")
    response = error_response(error, request_id.decode())
    headers = (*response.raw_headers, (b"x-request-id", request_id), (b"connection", b"close"))
    return b"".join(
        (STATUS_LINE[response.status_code], default_lines, lines_of(headers), b"\r\n", response.body)
    )

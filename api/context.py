"""What goes for every request: its id, limits on body and time, an answer in any case, its measure."""

import asyncio
import itertools
import logging
import re
import secrets
import time
from collections.abc import Callable, Iterable

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import PayloadTooLarge
from api.instruments import Instruments
from domain.errors import InternalError, InvalidRequest, OptimizerError, ServiceUnavailable, TimedOut

API_PREFIX = "/api/v1"
MAX_BODY_BYTES = 10 * 1024 * 1024
# Of all that are being received or worked on.
MAX_BODIES_BYTES = 64 * 1024 * 1024
# What is counted in place of a status where nobody was there to be answered.
_CLIENT_GONE = 499
_ACCEPTABLE_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}\Z")

_PROCESS = secrets.token_hex(8).encode()
_numbers = itertools.count(1)

log = logging.getLogger(__name__)


def request_id_from(given: bytes) -> bytes:
    """The caller's `X-Request-Id` where it is fit to be repeated, else a fresh one."""
    if given and _ACCEPTABLE_ID.match(given):
        return given
    return b"req_%b%08x" % (_PROCESS, next(_numbers))


def lines_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Headers as they are sent."""
    return b"".join(b"%b: %b\r\n" % header for header in headers)


class Bodies:
    """How many bytes of bodies are `held`, and may be: for `each` request, and for all `together`."""

    def __init__(self, each: int, together: int) -> None:
        self.each = each
        self.together = together
        self.held = 0


class RequestContext:
    """ASGI middleware round the whole application.

    An answer must begin within `seconds`, counted from the request's first byte; it may then take its time,
    as a stream does. `failure` gives the answer to a request that failed, here and in `api.failures`.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        instruments: Instruments,
        bodies: Bodies,
        seconds: float,
        failure: Callable[[Request, OptimizerError], Response],
    ) -> None:
        self._app = app
        self._instruments = instruments
        self._bodies = bodies
        self._seconds = seconds
        self._failure = failure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        id_header = request_id_from(headers.get(b"x-request-id", b""))
        request_id = id_header.decode()
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        state["failure"] = self._failure
        began, status = time.perf_counter(), 0
        body = _Body(self._bodies, receive)

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()),
                    *state.get("rate_limit", ()),
                    (b"x-request-id", id_header),
                ]
            await send(message)

        try:
            refused = self._refuse(scope, headers.get(b"content-length", b"0"))
            if refused is not None:
                await self._failure(Request(scope), refused)(scope, receive, send_with_id)
            else:
                await self._in_time(scope, body.receive, send_with_id)
        except TimedOut as error:
            log.warning("%s %s: %s (%s)", scope["method"], scope["path"], error.message, request_id)
            await self._failure(Request(scope), error)(scope, receive, send_with_id)
        except ClientDisconnect:
            status = _CLIENT_GONE
            log.info("%s %s: the client went away (%s)", scope["method"], scope["path"], request_id)
        except Exception:
            log.exception("%s %s failed (%s)", scope["method"], scope["path"], request_id)
            if status:
                raise
            failed = InternalError("the server failed to answer; its log has more under the requestId")
            await self._failure(Request(scope), failed)(scope, receive, send_with_id)
        finally:
            body.let_go()
            self._measure(scope, status, time.perf_counter() - began)

    async def _in_time(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have the application begin its answer in time, and end it when it will."""
        try:
            async with asyncio.timeout(self._seconds) as limit:

                async def send_on(message: Message) -> None:
                    limit.reschedule(None)
                    await send(message)

                await self._app(scope, receive, send_on)
        except TimeoutError as error:
            if limit.expired():
                raise TimedOut(f"no answer within {self._seconds:g} s", retry_after=1) from error
            raise

    def _refuse(self, scope: Scope, length: bytes) -> OptimizerError | None:
        if b"%00" in scope["query_string"] or "\0" in scope["path"]:
            return InvalidRequest("NUL characters are not allowed in an address")
        if length.isdigit() and int(length) > self._bodies.each:
            return PayloadTooLarge(f"the body is larger than {self._bodies.each} bytes")
        return None

    def _measure(self, scope: Scope, status: int, seconds: float) -> None:
        # A route's own path leaves out the prefix under which it is mounted.
        prefix = API_PREFIX if scope["path"].startswith(API_PREFIX) else ""
        found = scope.get("route")
        route = "none" if found is None else f"{prefix}{found.path}"
        method = "any" if found is None else scope["method"]
        self._instruments.requests.labels(method, route, str(status)).inc()
        self._instruments.durations.labels(method, route).observe(seconds)


class _Body:
    """Receives a request's body, no more of it than its limit, whatever length was declared."""

    def __init__(self, bodies: Bodies, receive: Receive) -> None:
        self._bodies = bodies
        self._receive = receive
        self._held = 0

    async def receive(self) -> Message:
        """The next message.

        Raises:
            HTTPException: the body is too large, or all bodies together are; as the framework lets it pass.
        """
        message = await self._receive()
        size = len(message.get("body", b""))
        self._held += size
        self._bodies.held += size
        if self._held > self._bodies.each:
            raise HTTPException(PayloadTooLarge.status, f"the body is larger than {self._bodies.each} bytes")
        if self._bodies.held > self._bodies.together:
            busy = "the server holds as many bytes of other requests as it can"
            raise HTTPException(ServiceUnavailable.status, busy, headers={"Retry-After": "1"})
        return message

    def let_go(self) -> None:
        """Whoever held the body does so no more."""
        self._bodies.held -= self._held
        self._held = 0

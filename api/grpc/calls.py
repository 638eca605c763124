"""What goes for every call: whose key it is, its id, limits on size and time, its errors, its measure.

A method takes and gives messages as bytes: so an answer that is known need not be made again, a message is
not read before its caller is known, and one that cannot be read is the client's error.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from grpc.aio import ServicerContext
from grpc_status import rpc_status

from api.auth import identify
from api.context import Bodies, request_id_from
from api.errors import PayloadTooLarge
from api.grpc.errors import CODES, status_of
from api.rate_limits import Policy
from api.server import Server
from domain.errors import InternalError, InvalidRequest, OptimizerError, ServiceUnavailable, TimedOut
from storage.keys import KeyScope, Principal

MAX_CALLS = 8192
"""Calls under way at a time, streams included."""

Context = ServicerContext[bytes, bytes]
Trailing = list[tuple[str, str | bytes]]
M = TypeVar("M", bound=Message)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Call:
    """A call by a holder of a key who may make it. `method` is `/<service>/<method>`, metadata as it came."""

    method: str
    metadata: Mapping[str, str]
    principal: Principal
    request_id: str


@dataclass(frozen=True, slots=True)
class Unary:
    """A method with one answer, for keys with a scope; without a `policy` its calls are not counted."""

    handle: Callable[[Call, bytes], Awaitable[bytes]]
    scope: KeyScope
    policy: Policy | None


@dataclass(frozen=True, slots=True)
class Streaming:
    """A method with a stream of answers."""

    handle: Callable[[Call, bytes], AsyncGenerator[bytes, None]]
    scope: KeyScope
    policy: Policy | None


@dataclass(frozen=True, slots=True)
class Service:
    """A service by its full name, whose messages are in the default descriptor pool."""

    name: str
    methods: Mapping[str, Unary | Streaming]


def parsed(kind: type[M], message: bytes) -> M:
    """A message from its bytes.

    Raises:
        InvalidRequest: this is none.
    """
    try:
        return kind.FromString(message)
    except DecodeError as error:
        raise InvalidRequest(f"the message is no {kind.DESCRIPTOR.full_name}") from error


class Calls:
    """Makes handlers of methods. `seconds` bound an answer, of a stream until it begins."""

    def __init__(self, server: Server, bodies: Bodies, *, seconds: float) -> None:
        self.server = server
        self._bodies = bodies
        self._seconds = seconds
        self._under_way = 0

    def handler(self, service: Service) -> grpc.GenericRpcHandler:
        """What gRPC calls for a service."""
        handlers = {
            name: self._handler(f"/{service.name}/{name}", method) for name, method in service.methods.items()
        }
        return grpc.method_handlers_generic_handler(service.name, handlers)

    def _handler(self, path: str, method: Unary | Streaming) -> "grpc.RpcMethodHandler[Any, Any]":
        async def serve(_: object, context: Context) -> bytes:
            return await self._serve(path, method, context)

        # There is one message; but of a method that is said to take one gRPC would read it before it asks us.
        if isinstance(method, Unary):
            return grpc.stream_unary_rpc_method_handler(serve)
        return grpc.stream_stream_rpc_method_handler(serve)

    async def _serve(self, path: str, method: Unary | Streaming, context: Context) -> bytes:
        began, code, answer, message = time.perf_counter(), grpc.StatusCode.OK, b"", b""
        metadata = {name: value for name, value in context.invocation_metadata() or () if type(value) is str}
        request_id = request_id_from(metadata.get("x-request-id", "").encode()).decode()
        trailing: Trailing = [("x-request-id", request_id)]
        self._under_way += 1
        try:
            async with asyncio.timeout(self._seconds) as limit:
                principal = await self._caller(method, metadata, context, trailing)
                message = await self._message(context)
                call = Call(path, metadata, principal, request_id)
                if isinstance(method, Unary):
                    answer = await method.handle(call, message)
                else:
                    await self._stream(method.handle(call, message), context, request_id, limit)
        except asyncio.CancelledError:
            code = grpc.StatusCode.CANCELLED
            raise
        except Exception as error:
            refusal = self._refusal(error, limit.expired(), f"{path} ({request_id})")
            code = CODES[refusal.code]
            status = rpc_status.to_status(status_of(refusal, request_id))
            context.set_code(status.code)
            context.set_details(status.details)
            trailing.extend(status.trailing_metadata)
        finally:
            self._under_way -= 1
            self._bodies.held -= len(message)
            self.server.instruments.measure_call(path, code.name, time.perf_counter() - began)
        context.set_trailing_metadata(tuple(trailing))
        return answer

    async def _caller(
        self, method: Unary | Streaming, metadata: Mapping[str, str], context: Context, trailing: Trailing
    ) -> Principal:
        """The holder of the call's key, judged as by REST.

        Raises:
            Unauthorized, Forbidden, RateLimited: it may not make this call, or not now.
            ServiceUnavailable: too many calls are under way.
        """
        if self._under_way > MAX_CALLS:
            raise ServiceUnavailable("the server has all the calls that it can", retry_after=1)
        server = self.server
        header = metadata.get("authorization", "")
        principal = server.authenticator.from_header(header.encode())
        if principal is None:
            kind, _, key = header.partition(" ")
            key = key.strip() if kind.lower() == "bearer" else ""
            principal = await identify(server.authenticator, server.limiter, key, _host_of(context.peer()))
        if method.policy is not None:
            standing = await server.limiter.count(method.policy, principal.id)
            if standing is not None:
                trailing.extend((name.decode(), value.decode()) for name, value in standing.headers)
                standing.require_admitted()
        principal.require(method.scope)
        return principal

    async def _message(self, context: Context) -> bytes:
        """The call's one message.

        Raises:
            InvalidRequest: there is none.
            PayloadTooLarge: it is too large, as it may be once it is decompressed.
            ServiceUnavailable: all that are held are.
        """
        message = await context.read()
        if not isinstance(message, bytes):
            raise InvalidRequest("the call has no message")
        if len(message) > self._bodies.each:
            raise PayloadTooLarge(f"the message is larger than {self._bodies.each} bytes")
        if self._bodies.held + len(message) > self._bodies.together:
            busy = "the server holds as many bytes of other requests as it can"
            raise ServiceUnavailable(busy, retry_after=1)
        self._bodies.held += len(message)
        return message

    async def _stream(
        self, answers: AsyncGenerator[bytes, None], context: Context, request_id: str, limit: asyncio.Timeout
    ) -> None:
        """Send answers as they come."""
        async with aclosing(answers):
            async for answer in answers:
                if limit.when() is not None:
                    limit.reschedule(None)
                    await context.send_initial_metadata((("x-request-id", request_id),))
                await context.write(answer)

    def _refusal(self, error: Exception, expired: bool, what: str) -> OptimizerError:
        """What the client is told of an error, which is logged where it is ours."""
        if isinstance(error, TimeoutError) and expired:
            error = TimedOut(f"no answer within {self._seconds:g} s", retry_after=1)
        if not isinstance(error, OptimizerError):
            log.error("%s failed", what, exc_info=error)
            return InternalError("the server failed to answer; its log has more under the requestId")
        if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR and not self.server.draining.is_set():
            log.warning("%s: %s", what, error.message, exc_info=error.__cause__)
        return error


def _host_of(peer: str) -> str:
    """The address in `ipv4:192.0.2.1:40000` or `ipv6:[2001:db8::1]:40000`."""
    return peer.partition(":")[2].rpartition(":")[0]

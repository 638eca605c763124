"""A gRPC client of a served application, and what every error of gRPC keeps to."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpc_status import rpc_status

from api.context import MAX_BODY_BYTES
from api.grpc import optimizer_pb2
from api.grpc.errors import DOMAIN
from api.grpc.server import GrpcServer
from tests.api.answers import RETRYABLE
from tests.api.conftest import ADMIN_KEY, Served

SERVICE = optimizer_pb2.DESCRIPTOR.services_by_name["OptimizerService"]


class Client:
    """The methods of the service, as `client.GetConfig(...)`, by the admin's key where none is given."""

    def __init__(self, channel: grpc.aio.Channel, key: str | None = ADMIN_KEY) -> None:
        self.channel = channel
        self.metadata = () if key is None else (("authorization", f"Bearer {key}"),)

    def with_key(self, key: str | None) -> "Client":
        return Client(self.channel, key)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = SERVICE.methods_by_name[name]
        make = self.channel.unary_stream if method.server_streaming else self.channel.unary_unary
        found: Callable[..., Any] = make(
            f"/{SERVICE.full_name}/{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=getattr(optimizer_pb2, method.output_type.name).FromString,
        )

        def call(request: Message | None = None, *more: tuple[str, str], **options: Any) -> Any:
            message = request if request is not None else getattr(optimizer_pb2, method.input_type.name)()
            return found(message, metadata=(*self.metadata, *more), **{"timeout": 30, **options})

        return call


@dataclass(frozen=True, slots=True)
class Both:
    """Clients of one application, by REST and by gRPC."""

    rest: httpx.AsyncClient
    grpc: Client
    target: str


@asynccontextmanager
async def served_both(served: Served, **options: Any) -> AsyncIterator[Both]:
    """Serve an application by REST and gRPC."""
    server = GrpcServer("127.0.0.1", 0, max_message_bytes=options.get("max_body_bytes", MAX_BODY_BYTES))
    target = f"127.0.0.1:{server.port}"
    async with served(grpc=server, **options) as rest, grpc.aio.insecure_channel(target) as channel:
        yield Both(rest, Client(channel), target)


async def refused(call: Any, status: grpc.StatusCode, code: str) -> ErrorInfo:
    """The details of a call that must end with an error, of this status and code, in the one format."""
    error = await failed(call)
    assert error.code() is status, error
    trailing = dict(error.trailing_metadata() or ())
    found = rpc_status.from_call(error)
    assert found is not None, error
    assert (found.code, found.message) == (status.value[0], error.details())
    info, retry = ErrorInfo(), RetryInfo()
    assert found.details[0].Unpack(info)
    assert (info.reason, info.domain) == (code, DOMAIN)
    assert info.metadata["requestId"] == trailing["x-request-id"]
    assert info.metadata["retryable"] == str(code in RETRYABLE).lower()
    for detail in found.details[1:]:
        assert detail.Unpack(retry)
        assert retry.retry_delay.seconds >= 1
    return info


async def failed(call: Any) -> Any:
    """The error with which a call ends."""
    try:
        if isinstance(call, grpc.aio.UnaryStreamCall):
            while await call.read() is not grpc.aio.EOF:
                pass
        else:
            await call
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError("the call did not fail")

"""The gRPC server itself: health, reflection, its port, and how it drains."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub
from sqlalchemy import text

from api.grpc.optimizer_pb2 import DESCRIPTOR
from api.grpc.server import GrpcServer
from storage.database import Database
from tests.api.conftest import Served
from tests.api.grpc_client import SERVICE, Both, Client, failed, refused, served_both
from tests.api.test_grpc import batch, metric
from tests.storage.locks import until_waiting
from tests.storage.records import first_config

SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING
HEALTH = "grpc.health.v1.Health"


@pytest_asyncio.fixture
async def both(served: Served, database: Database) -> AsyncIterator[Both]:
    await first_config(database, "global", "gpt-4o")
    async with served_both(served) as opened:
        yield opened


def health_of(channel: grpc.aio.Channel) -> Any:
    """The health service's methods, of which its types know nothing."""
    return HealthStub(channel)


async def test_health_is_told_to_anybody(both: Both) -> None:
    health = health_of(both.grpc.channel)
    for service in ("", SERVICE.full_name):
        assert (await health.Check(HealthCheckRequest(service=service))).status == SERVING
        watch = health.Watch(HealthCheckRequest(service=service))
        assert (await watch.read()).status == SERVING
        watch.cancel()
    error = await failed(health.Check(HealthCheckRequest(service="other")))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    watch = health.Watch(HealthCheckRequest(service="other"))
    assert (await watch.read()).status == HealthCheckResponse.SERVICE_UNKNOWN
    watch.cancel()


async def test_without_a_configuration_to_serve_it_is_not_serving(served: Served) -> None:
    nothing = Database("postgresql://nobody@127.0.0.1:9/nothing")
    async with served_both(served, database=nothing) as both:
        answer = await health_of(both.grpc.channel).Check(HealthCheckRequest())
        assert answer.status == NOT_SERVING
        assert (await both.rest.get("/readyz")).status_code == 503
    await nothing.close()


async def test_reflection_describes_the_services(both: Both) -> None:
    async def asked(request: ServerReflectionRequest) -> AsyncIterator[ServerReflectionRequest]:
        yield request

    reflection: Any = ServerReflectionStub(both.grpc.channel)  # type: ignore[arg-type]  # any channel will do

    async def ask(**given: Any) -> list[Any]:
        return [
            answer
            async for answer in reflection.ServerReflectionInfo(asked(ServerReflectionRequest(**given)))
        ]

    (listed,) = await ask(list_services="")
    names = {service.name for service in listed.list_services_response.service}
    assert names == {
        SERVICE.full_name,
        HEALTH,
        "grpc.reflection.v1alpha.ServerReflection",
        "opentelemetry.proto.collector.metrics.v1.MetricsService",
        "opentelemetry.proto.collector.trace.v1.TraceService",
    }
    (described,) = await ask(file_containing_symbol=SERVICE.full_name)
    pool, found = DescriptorPool(), {}
    for encoded in described.file_descriptor_response.file_descriptor_proto:
        file = FileDescriptorProto.FromString(encoded)
        found[file.name] = file
    for name in ("google/protobuf/struct.proto", "optimizer.proto"):
        pool.Add(found[name])
    methods = pool.FindServiceByName(SERVICE.full_name).methods_by_name
    assert {name: method.server_streaming for name, method in methods.items()} == {
        "GetConfig": False,
        "ReportMetrics": False,
        "StreamConfig": True,
    }
    # As a client without the protocol's file would ask.
    assert found["optimizer.proto"].SerializeToString() == DESCRIPTOR.serialized_pb


async def test_a_drain_ends_streams_and_lets_calls_finish(served: Served, database: Database) -> None:
    await first_config(database, "global", "gpt-4o")
    opened = AsyncExitStack()
    both = await opened.enter_async_context(served_both(served))
    async with grpc.aio.insecure_channel(both.target) as channel:
        client, health = Client(channel), health_of(channel)
        stream, watch = client.StreamConfig(), health.Watch(HealthCheckRequest())
        await stream.read()
        assert (await watch.read()).status == SERVING
        async with database.transaction() as session:
            await session.execute(text("LOCK TABLE metrics IN ACCESS EXCLUSIVE MODE"))
            report = client.ReportMetrics(batch(metric()))
            waiting = asyncio.ensure_future(report.code())
            await until_waiting(database)
            closing = asyncio.create_task(opened.aclose())
            async with asyncio.timeout(5):
                assert (await watch.read()).status == NOT_SERVING
                assert await watch.read() is grpc.aio.EOF
                await refused(stream, grpc.StatusCode.UNAVAILABLE, "SERVICE_UNAVAILABLE")
                assert (await failed(client.GetConfig())).code() is grpc.StatusCode.UNAVAILABLE
            assert not waiting.done()
            assert not closing.done()
        assert await waiting is grpc.StatusCode.OK
        assert (await report).accepted == 1
        async with asyncio.timeout(10):
            await closing
    pool = await database.pool()
    assert await pool.fetchval("SELECT count(*) FROM metrics") == 1


async def test_a_client_may_ask_every_ten_seconds_whether_the_server_is_there(both: Both) -> None:
    """Servers usually end the connection of one that asks more than every five minutes."""
    options = (
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    )
    async with grpc.aio.insecure_channel(both.target, options=options) as channel:
        stream = Client(channel).StreamConfig(timeout=None)
        await stream.read()
        await asyncio.sleep(35)
        assert not stream.done()
        stream.cancel()


async def test_a_port_that_is_taken_is_an_error(both: Both) -> None:
    port = int(both.target.rpartition(":")[2])
    with pytest.raises(OSError, match="cannot be bound"):
        GrpcServer("127.0.0.1", port, max_message_bytes=1)


async def test_ipv6_is_listened_on_where_it_is_asked_for(served: Served, database: Database) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    await first_config(database, "global", "gpt-4o")
    server = GrpcServer("::1", 0, max_message_bytes=1000)
    async with served(grpc=server), grpc.aio.insecure_channel(f"[::1]:{server.port}") as channel:
        assert (await Client(channel).GetConfig()).version == "global@1"
        stranger = Client(channel, "unknown")
        await refused(stranger.GetConfig(), grpc.StatusCode.UNAUTHENTICATED, "UNAUTHORIZED")

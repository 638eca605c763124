"""OTLP while PostgreSQL is away and comes back, and over gRPC what may be wrong with a call."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import httpx
from google.protobuf.message import Message
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import MetricsServiceStub
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub

from domain.rate_limits import RateLimits
from infra.embedded import EmbeddedStack
from storage.database import Database
from tests.api.answers import eventually
from tests.api.conftest import ADMIN_KEY, Served
from tests.api.grpc_client import refused, served_both
from tests.api.telemetry import (
    GEN_AI,
    METRICS,
    SECOND,
    export,
    exported,
    failed,
    histograms,
    request,
    rows,
    span,
)
from tests.api.test_otlp_metrics import LABELS

KEY = (("authorization", f"Bearer {ADMIN_KEY}"),)


async def test_what_was_refused_while_postgresql_was_away_counts_once_when_it_is_sent_again(
    served: Served, database: Database, stack: EmbeddedStack
) -> None:
    assert stack.postgres is not None
    traces = request(
        span(), span(events=[("gen_ai.evaluation.result", {"gen_ai.evaluation.score.value": 1.0})])
    )
    end = traces.resource_spans[0].scope_spans[0].spans[0].end_time_unix_nano
    points = histograms((LABELS, [3, 0, 0], 1.5), start=end - SECOND, at=end, service="mail")
    batches: list[tuple[Message, str]] = [(traces, "/v1/traces"), (points, METRICS)]

    async def sent(client: httpx.AsyncClient) -> list[httpx.Response]:
        return await asyncio.gather(*(export(client, message, path) for message, path in batches))

    async with served() as client:
        await stack.postgres.kill()
        try:
            for answer in await sent(client):
                failed(answer, 503, "DATABASE_ERROR")
                assert int(answer.headers["retry-after"]) >= 1
        finally:
            await stack.postgres.start()
        await eventually(client, "/api/v1/health", lambda body: body["status"] != "unhealthy")
        for _ in range(3):
            for answer in await sent(client):
                exported(answer)
        found = await rows(database)
    assert sorted(row["service"] for row in found) == ["chat", "chat", "mail", "mail", "mail"]
    assert len(await rows(database, "quality")) == 1


async def test_grpc_takes_and_refuses_as_http_does(
    served: Served, database: Database, key_with: Callable[..., Any]
) -> None:
    reader = await key_with("read")
    limits = RateLimits(reports=8, reads=0, writes=0, wrong_keys=0)
    async with served_both(served, rate_limits=limits, max_body_bytes=100_000) as both:
        stub = TraceServiceStub(both.grpc.channel)  # type: ignore[no-untyped-call]  # generated, without types
        points = MetricsServiceStub(both.grpc.channel)  # type: ignore[no-untyped-call]  # generated, without types
        message = request(span(), span(GEN_AI | {"gen_ai.usage.output_tokens": -1}))
        for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
            answer = await stub.Export(message, metadata=KEY, compression=compression)
            assert answer.partial_success.rejected_spans == 1
            assert "tokensOutput" in answer.partial_success.error_message
        exported(await export(both.rest, message))
        assert len(await rows(database)) == 1, "by whatever way, a span is one span"
        unknown = (("authorization", "Bearer wrong"),)
        await refused(stub.Export(message, metadata=unknown), grpc.StatusCode.UNAUTHENTICATED, "UNAUTHORIZED")
        await refused(stub.Export(message), grpc.StatusCode.UNAUTHENTICATED, "UNAUTHORIZED")
        limited = (("authorization", f"Bearer {reader}"),)
        await refused(stub.Export(message, metadata=limited), grpc.StatusCode.PERMISSION_DENIED, "FORBIDDEN")
        huge = request(span({"gen_ai.input.messages": "x" * 150_000}))
        await refused(stub.Export(huge, metadata=KEY), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
        raw = both.grpc.channel.unary_unary(
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            request_serializer=bytes,
            response_deserializer=bytes,
        )
        await refused(raw(b"\xff", metadata=KEY), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
        counted = histograms((LABELS, [1, 0, 0], 0.5), start=1, at=2, service="mail")
        assert (await points.Export(counted, metadata=KEY)).partial_success.rejected_data_points == 1
        for _ in range(4):
            last = stub.Export(message, metadata=KEY)
            await last.code()
        await refused(last, grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")

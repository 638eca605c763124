"""Spans and histograms as exporters send them, made by hand, and what became of them."""

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from storage.database import Database

TRACES, METRICS = "/v1/traces", "/v1/metrics"
PROTOBUF = {"Content-Type": "application/x-protobuf"}
SECOND = 1_000_000_000

GEN_AI: dict[str, Any] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.response.model": "gpt-4o-2024-08-06",
    "gen_ai.usage.input_tokens": 1000,
    "gen_ai.usage.output_tokens": 500,
}


def pairs(attributes: Mapping[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_any(value)) for key, value in attributes.items() if value is not None]


def _any(value: Any) -> AnyValue:
    if isinstance(value, list):
        found = AnyValue()
        found.array_value.values.extend(_any(item) for item in value)
        return found
    kind = {bool: "bool_value", int: "int_value", float: "double_value", str: "string_value"}[type(value)]
    return AnyValue(**{kind: value})


def span(
    attributes: Mapping[str, Any] = GEN_AI,
    *,
    events: Sequence[tuple[str, Mapping[str, Any]]] = (),
    parent: Span | None = None,
    seconds: float = 1.5,
    **fields: Any,
) -> Span:
    """A span that ended a moment ago."""
    end = time.time_ns()
    made = Span(
        trace_id=secrets.token_bytes(16) if parent is None else parent.trace_id,
        span_id=secrets.token_bytes(8),
        parent_span_id=b"" if parent is None else parent.span_id,
        name="chat gpt-4o",
        start_time_unix_nano=end - int(seconds * SECOND),
        end_time_unix_nano=end,
        attributes=pairs(attributes),
    )
    for name, given in events:
        made.events.add(name=name, time_unix_nano=end - int(seconds * SECOND), attributes=pairs(given))
    made.MergeFrom(Span(**fields))
    return made


def request(*spans: Span, service: str | None = "chat") -> ExportTraceServiceRequest:
    made = ExportTraceServiceRequest()
    resource = made.resource_spans.add()
    resource.resource.attributes.extend(pairs({"service.name": service}))
    resource.scope_spans.add().spans.extend(spans)
    return made


async def export(
    client: httpx.AsyncClient, message: Message, path: str = TRACES, **headers: str
) -> httpx.Response:
    return await client.post(path, content=message.SerializeToString(), headers=PROTOBUF | headers)


def exported(answer: httpx.Response) -> ExportTraceServiceResponse:
    """The answer to spans that were taken, in part at least."""
    assert answer.status_code == 200, answer.content
    assert answer.headers["content-type"] == "application/x-protobuf"
    return ExportTraceServiceResponse.FromString(answer.content)


def failed(answer: httpx.Response, status: int, code: str) -> Status:
    """The status of an answer that must be an error, in protobuf."""
    assert answer.status_code == status, answer.content
    assert answer.headers["content-type"] == "application/x-protobuf"
    found, info = Status.FromString(answer.content), ErrorInfo()
    assert found.message
    assert found.details[0].Unpack(info)
    assert (info.reason, info.metadata["requestId"]) == (code, answer.headers["x-request-id"])
    return found


def histograms(
    *points: tuple[Mapping[str, Any], Sequence[int], float],
    start: int,
    at: int,
    usage: Sequence[tuple[Mapping[str, Any], int, float]] = (),
    service: str | None = "chat",
    temporality: Any = 2,
    unit: str = "s",
) -> ExportMetricsServiceRequest:
    """A duration histogram with the bounds 1 s and 10 s, and one of tokens; times in ns."""
    made = ExportMetricsServiceRequest()
    resource = made.resource_metrics.add()
    resource.resource.attributes.extend(pairs({"service.name": service}))
    metrics = resource.scope_metrics.add().metrics
    durations = metrics.add(name="gen_ai.client.operation.duration", unit=unit)
    durations.histogram.aggregation_temporality = temporality
    for attributes, buckets, total in points:
        durations.histogram.data_points.add(
            attributes=pairs(attributes),
            start_time_unix_nano=start,
            time_unix_nano=at,
            count=sum(buckets),
            sum=total,
            bucket_counts=buckets,
            explicit_bounds=[1, 10],
        )
    tokens = metrics.add(name="gen_ai.client.token.usage", unit="{token}")
    tokens.histogram.aggregation_temporality = temporality
    for attributes, count, total in usage:
        tokens.histogram.data_points.add(
            attributes=pairs(attributes),
            start_time_unix_nano=start,
            time_unix_nano=at,
            count=count,
            sum=total,
        )
    return made


async def rows(database: Database, table: str = "metrics") -> list[dict[str, Any]]:
    """What is kept, in order of time."""
    pool = await database.pool()
    return [dict(row) for row in await pool.fetch(f"SELECT * FROM {table} ORDER BY ts")]

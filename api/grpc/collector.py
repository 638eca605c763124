"""OpenTelemetry's own services, by which its exporters and collectors send: OTLP/gRPC."""

from functools import partial

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    DESCRIPTOR as METRICS,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    DESCRIPTOR as TRACES,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)

from api.grpc.calls import Call, Service, Unary, parsed
from api.otlp.taking import take_points, take_traces
from api.server import Server


def services(server: Server) -> list[Service]:
    """`TraceService` and `MetricsService`."""

    async def export_traces(_: Call, message: bytes) -> bytes:
        answer = await take_traces(server, partial(parsed, ExportTraceServiceRequest, message))
        return answer.SerializeToString()

    async def export_points(_: Call, message: bytes) -> bytes:
        answer = await take_points(server, partial(parsed, ExportMetricsServiceRequest, message))
        return answer.SerializeToString()

    return [
        Service(
            TRACES.services_by_name["TraceService"].full_name,
            {"Export": Unary(export_traces, "ingest", "reports")},
        ),
        Service(
            METRICS.services_by_name["MetricsService"].full_name,
            {"Export": Unary(export_points, "ingest", "reports")},
        ),
    ]

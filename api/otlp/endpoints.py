"""`/v1/traces` and `/v1/metrics`: where exporters and collectors send by OTLP/HTTP."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response, Security
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from api.auth import Requires
from api.otlp.taking import take_points, take_traces
from api.otlp.wire import JSON, PROTOBUF, M, decode, encode, kind_of
from api.server import ServerDep
from storage.keys import Principal

TRACES = "/v1/traces"
METRICS = "/v1/metrics"

router = APIRouter(tags=["otlp"])

Sender = Annotated[Principal, Security(Requires("ingest"), scopes=["ingest"])]


def _extra(message: str, part: str) -> dict[str, Any]:
    """Bodies of both kinds, which the framework does not know of."""
    rejected = {
        "type": "object",
        "properties": {
            part: {"type": "string", "description": "How many, by a decimal number."},
            "errorMessage": {"type": "string"},
        },
    }
    answer = {"type": "object", "properties": {"partialSuccess": rejected}}
    return {
        "requestBody": {
            "required": True,
            "content": {
                PROTOBUF: {"schema": _binary(f"{message}Request")},
                JSON: {"schema": {"type": "object", "description": f"{message}Request"}},
            },
        },
        "responses": {
            "200": {
                "content": {PROTOBUF: {"schema": _binary(f"{message}Response")}, JSON: {"schema": answer}}
            }
        },
    }


def _binary(message: str) -> dict[str, Any]:
    return {"type": "string", "format": "binary", "description": message}


@router.post(TRACES, openapi_extra=_extra("ExportTraceService", "rejectedSpans"), response_class=Response)
async def export_traces(request: Request, server: ServerDep, _: Sender) -> Response:
    """Spans of LLM calls, each a report of the call, with the evaluations in their events.

    What is accepted is committed before this answers; what was sent before is known and not kept again.
    """
    kind = kind_of(request.headers.get("content-type", ""))
    read = await _decoder(request, server, ExportTraceServiceRequest)
    return encode(await take_traces(server, read), kind)


@router.post(
    METRICS, openapi_extra=_extra("ExportMetricsService", "rejectedDataPoints"), response_class=Response
)
async def export_metrics(request: Request, server: ServerDep, _: Sender) -> Response:
    """Histograms of LLM calls, from which the calls are counted of services that send no spans."""
    kind = kind_of(request.headers.get("content-type", ""))
    read = await _decoder(request, server, ExportMetricsServiceRequest)
    return encode(await take_points(server, read), kind)


async def _decoder(request: Request, server: ServerDep, message: type[M]) -> "partial[M]":
    headers = request.headers
    kind, encoding = kind_of(headers.get("content-type", "")), headers.get("content-encoding", "")
    return partial(decode, await request.body(), kind, encoding, message, server.max_body_bytes)

"""`/metrics` and `/quality`: batches, accepted in part."""

from typing import Any, TypeVar

import msgspec
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from api.body import StrictRoute, require_json_type
from api.commands import IngestCommand
from api.idempotency import json_answer
from api.server import ServerDep
from domain.base import Message
from domain.reports import Batch, MetricReport, QualityEvaluation, parse_metrics, parse_quality
from storage.idempotency import Answer

router = APIRouter(tags=["reports"], route_class=StrictRoute)

Report = TypeVar("Report", MetricReport, QualityEvaluation)


class RejectedItem(Message):
    """A bad item: its index in the batch, and what is wrong with it."""

    index: int
    reason: str


class BatchResponse(Message):
    """How many items were kept and how many were not; each of the latter by name."""

    accepted: int
    rejected: int
    errors: list[RejectedItem] | None = None


def _body(field: str, item: type[msgspec.Struct]) -> dict[str, Any]:
    (schema,), components = msgspec.json.schema_components([item], ref_template="{name}")
    batch = {
        "type": "object",
        "required": [field],
        "additionalProperties": False,
        "properties": {field: {"type": "array", "items": components[schema["$ref"]]}},
    }
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": batch}}}}


@router.post(
    "/metrics",
    response_model=BatchResponse,
    openapi_extra=_body("metrics", MetricReport),
)
async def report_metrics(request: Request, server: ServerDep, command: IngestCommand) -> JSONResponse:
    """Report calls. What is accepted is committed before this answers."""
    require_json_type(request)
    batch = parse_metrics(await request.body(), server.snapshot.now_ms())
    return json_answer(await server.intake.metrics(batch.accepted, _answer(batch), command.claim))


@router.post(
    "/quality",
    response_model=BatchResponse,
    openapi_extra=_body("evaluations", QualityEvaluation),
)
async def report_quality(request: Request, server: ServerDep, command: IngestCommand) -> JSONResponse:
    """Report how good answers were."""
    require_json_type(request)
    batch = parse_quality(await request.body(), server.snapshot.now_ms())
    return json_answer(await server.intake.quality(batch.accepted, _answer(batch), command.claim))


def _answer(batch: Batch[Report]) -> Answer:
    body: dict[str, Any] = {"accepted": len(batch.accepted), "rejected": len(batch.rejected)}
    if batch.rejected:
        body["errors"] = [{"index": bad.index, "reason": bad.reason} for bad in batch.rejected]
    return Answer(200, body)

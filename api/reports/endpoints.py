"""`/metrics` and `/quality`: batches, accepted in part."""

from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from api.body import StrictRoute, require_json_type
from api.commands import IngestCommand
from api.idempotency import json_answer
from api.reports.taking import take_metrics, take_quality
from api.server import ServerDep
from domain.base import Message
from domain.reports import MetricReport, QualityEvaluation
from storage.intake import EARLY_CAPACITY, Ack

router = APIRouter(tags=["reports"], route_class=StrictRoute)

AckQuery = Annotated[
    Ack,
    Query(
        description="When to answer. `commit`: once what is accepted is committed. `buffer`: once it is in "
        f"the server's memory, of which its death may lose the latest {EARLY_CAPACITY:,} items."
    ),
]


class RejectedItem(Message):
    """A bad item: its index in the batch, and what is wrong with it."""

    index: int
    reason: str


class BatchResponse(Message):
    """How many items were kept and how many were not; each of the latter by name.

    `ack` is there where the answer came before the commit.
    """

    accepted: int
    rejected: int
    errors: list[RejectedItem] | None = None
    ack: Literal["buffer"] | None = None


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
async def report_metrics(
    request: Request, server: ServerDep, command: IngestCommand, ack: AckQuery = "commit"
) -> JSONResponse:
    """Report calls. What is accepted is committed before this answers, unless `ack` says otherwise."""
    require_json_type(request)
    return json_answer(await take_metrics(server, await request.body(), command.claim, ack))


@router.post(
    "/quality",
    response_model=BatchResponse,
    openapi_extra=_body("evaluations", QualityEvaluation),
)
async def report_quality(
    request: Request, server: ServerDep, command: IngestCommand, ack: AckQuery = "commit"
) -> JSONResponse:
    """Report how good answers were."""
    require_json_type(request)
    return json_answer(await take_quality(server, await request.body(), command.claim, ack))

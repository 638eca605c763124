"""`/optimize`: runs of the loop."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse

from api.auth import Reader
from api.body import StrictRoute
from api.commands import WriteCommand
from api.idempotency import json_answer
from api.optimizations import triggers
from api.paging import PageQuery
from api.server import ServerDep
from domain.base import Message
from domain.optimization import OptimizationRequest, OptimizationResponse, OptimizationStatus
from domain.scope import ServiceName
from storage import optimizations

MAX_WAIT_SECONDS = 60

router = APIRouter(prefix="/optimize", tags=["optimize"], route_class=StrictRoute)

Wait = Annotated[
    float,
    Query(ge=0, le=MAX_WAIT_SECONDS, allow_inf_nan=False, description="Wait so many seconds for a plan."),
]


class OptimizationList(Message):
    """A page of runs, the newest first, and how many there are."""

    total: int
    optimizations: list[OptimizationStatus]


@router.post("/trigger", status_code=202, response_model=OptimizationResponse)
async def trigger_optimization(
    server: ServerDep, command: WriteCommand, body: OptimizationRequest, wait: Wait = 0
) -> JSONResponse:
    """Optimize some services, or every known one, now. With `dryRun` nothing is changed."""
    return json_answer(await triggers.trigger(server, command, body, wait=wait))


@router.get("", response_model_exclude_none=True)
async def list_optimizations(
    server: ServerDep, _: Reader, page: PageQuery, service: ServiceName | None = None
) -> OptimizationList:
    """Every run, or those over a service, the newest first."""
    async with server.database.transaction() as session:
        total, rows = await optimizations.list_runs(
            session, service=service, limit=page.limit, offset=page.offset
        )
        runs = [await optimizations.status(session, row) for row in rows]
    return OptimizationList(total=total, optimizations=runs)


@router.get("/{optimization_id}", response_model_exclude_none=True)
async def get_optimization(server: ServerDep, _: Reader, optimization_id: str) -> OptimizationStatus:
    """Where a run is, and once it is done what it came to, its rollouts as they are now."""
    async with server.database.transaction() as session:
        return await optimizations.status(session, await optimizations.get(session, optimization_id))

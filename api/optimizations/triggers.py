"""Triggering a run: the row first, then its workflow."""

import asyncio
import time

from sqlalchemy.ext.asyncio import AsyncSession

from api.commands import Command
from api.server import Server
from domain.errors import OptimizationFailed, ServiceUnavailable
from domain.idempotency import Answer, Claim
from domain.optimization import OptimizationRequest, OptimizationResponse
from storage import audit, control, idempotency, optimizations, overview
from storage.tables import Optimization
from workflows import starts

_LOOK_SECONDS = 0.1
# So many of a run's services are named in its audit entry.
_NAMED = 20


async def trigger(server: Server, command: Command, request: OptimizationRequest, *, wait: float) -> Answer:
    """Open a run and start it; while a pause holds it stays queued. Waits up to `wait` seconds for a plan.

    Raises:
        NotFound, Conflict, Stopped: as `optimizations.open_optimization`.
        ServiceUnavailable: Temporal refused for certain; the run is failed, and the command's claim may be
            made anew.
    """
    async with server.database.transaction() as session:
        answer, run = await idempotency.earlier_answer(session, command.claim), None
        paused = (await control.get(session)).state == "paused"
        if answer is None:
            run = await _open(session, command, request)
            answer = Answer(202, (await _response(server, session, run)).to_json())
            await idempotency.keep_answer(session, command.claim, answer)
    if paused:
        return answer
    if run is not None:
        await _start(server, run, command.claim)
    if wait > 0:
        return Answer(202, (await _when_planned(server, answer.body["optimizationId"], wait)).to_json())
    return answer


async def _open(session: AsyncSession, command: Command, request: OptimizationRequest) -> Optimization:
    by = command.actor.name
    run = await optimizations.open_optimization(session, request, triggered_by="manual", by=by)
    if not request.dry_run:
        services = run.request["services"]
        details = {"services": services[:_NAMED], "count": len(services)}
        audit.record(session, command.actor, "optimization.trigger", run.id, details)
    return run


async def _start(server: Server, run: Optimization, claim: Claim | None) -> None:
    try:
        client = await server.temporal.client()
        await starts.start_optimization(client, run.id, summary=starts.summary_of_run(run.request))
    except starts.StartUnknown:
        return
    except ServiceUnavailable as error:
        async with server.database.transaction() as session:
            never_began = await optimizations.refuse(session, run.id, error.message)
            if never_began:
                await idempotency.forget(session, claim)
        if never_began:
            raise


async def _when_planned(server: Server, optimization_id: str, seconds: float) -> OptimizationResponse:
    deadline = time.monotonic() + seconds
    while True:
        async with server.database.transaction() as session:
            run = await optimizations.get(session, optimization_id)
            plans = await optimizations.plans(session, optimization_id)
            response = await _response(server, session, run)
        if run.status == "failed":
            reason = run.error or "the run failed"
            raise OptimizationFailed(reason, details={"optimizationId": run.id})
        settled = bool(plans) or run.status == "completed"
        if settled or time.monotonic() >= deadline:
            return response.model_copy(update={"plan": plans[0] if plans else None})
        await asyncio.sleep(_LOOK_SECONDS)


async def _response(server: Server, session: AsyncSession, run: Optimization) -> OptimizationResponse:
    return OptimizationResponse.model_validate(
        {"optimizationId": run.id, "status": run.status, "eta": await _eta(server, session, run)}
    )


async def _eta(server: Server, session: AsyncSession, run: Optimization) -> int | None:
    """What is left of the time that such runs take, in ms."""
    if run.status not in ("queued", "running"):
        return None
    typical = await overview.typical_run_ms(session)
    if typical is None:
        return None
    elapsed = server.snapshot.now_ms() - run.started_at if run.started_at else 0
    return max(0, typical - elapsed)

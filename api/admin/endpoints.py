"""`/admin`: pause, resume, emergency stop; each durable before it answers."""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncSession

from api.admin.signals import Order, hurry
from api.auth import Admin
from api.body import StrictRoute
from api.idempotency import IdempotencyKey, claim_of, json_answer
from api.server import Server, ServerDep
from domain.base import Message
from storage import control, idempotency
from storage.idempotency import Answer, Claim
from storage.overview import OpenWork, open_work
from workflows.messages import ControlSignal

router = APIRouter(prefix="/admin", tags=["admin"], route_class=StrictRoute)


class PauseRequest(Message):
    """Why."""

    reason: str | None = Field(default=None, min_length=1, max_length=2000)


class PauseResponse(Message):
    """Whether everything is paused, since when, and why."""

    paused: bool
    paused_at: int | None = None
    reason: str | None = None


class EmergencyStopRequest(Message):
    """Why."""

    reason: str = Field(min_length=1, max_length=2000)


class EmergencyStopResponse(Message):
    """`safe_mode`: every scope serves its last version known good, and nothing starts until resume."""

    stopped: bool
    safe_mode: bool
    timestamp: int


Change = Callable[[AsyncSession], Awaitable[tuple[Message, ControlSignal, OpenWork]]]


async def _order(server: Server, order: Order, claim: Claim | None, change: Change) -> JSONResponse:
    """Commit the change, then hurry the workflows along in the background."""
    async with server.database.transaction() as session:
        earlier = await idempotency.earlier_answer(session, claim) if claim else None
        if earlier is not None:
            return json_answer(earlier)
        response, signal, work = await change(session)
        answer = Answer(200, response.to_json())
        if claim is not None:
            await idempotency.keep_answer(session, claim, answer)
    server.background.run(hurry(server, work, order, signal))
    await server.refresh()
    return json_answer(answer)


@router.post("/pause", response_model=PauseResponse)
async def pause(
    request: Request,
    server: ServerDep,
    principal: Admin,
    body: PauseRequest | None = None,
    idempotency_key: IdempotencyKey = None,
) -> JSONResponse:
    """Hold every run before its next phase and every rollout in its step. Reads and reports go on."""

    async def change(session: AsyncSession) -> tuple[Message, ControlSignal, OpenWork]:
        row = await control.pause(session, reason=body.reason if body else None, by=principal.name)
        response = PauseResponse(paused=True, paused_at=row.changed_at, reason=row.reason)
        return response, ControlSignal(revision=row.revision, reason=row.reason), await open_work(session)

    claim = await claim_of(request, principal, idempotency_key)
    return await _order(server, "pause", claim, change)


@router.post("/resume", response_model=PauseResponse)
async def resume(
    request: Request,
    server: ServerDep,
    principal: Admin,
    body: PauseRequest | None = None,
    idempotency_key: IdempotencyKey = None,
) -> JSONResponse:
    """End a pause or an emergency stop."""

    async def change(session: AsyncSession) -> tuple[Message, ControlSignal, OpenWork]:
        row = await control.resume(session, by=principal.name)
        signal = ControlSignal(revision=row.revision, reason=body.reason if body else None)
        return PauseResponse(paused=False), signal, await open_work(session)

    claim = await claim_of(request, principal, idempotency_key)
    return await _order(server, "resume", claim, change)


@router.post("/emergency-stop", response_model=EmergencyStopResponse)
async def emergency_stop(
    request: Request,
    server: ServerDep,
    principal: Admin,
    body: EmergencyStopRequest,
    idempotency_key: IdempotencyKey = None,
) -> JSONResponse:
    """End every run, take every rollout back, and let nothing start until resume."""

    async def change(session: AsyncSession) -> tuple[Message, ControlSignal, OpenWork]:
        outcome = await control.emergency_stop(session, reason=body.reason, by=principal.name)
        response = EmergencyStopResponse(stopped=True, safe_mode=True, timestamp=outcome.timestamp)
        work = OpenWork(outcome.rollouts, outcome.optimizations)
        return response, ControlSignal(revision=outcome.revision, reason=body.reason), work

    claim = await claim_of(request, principal, idempotency_key)
    return await _order(server, "emergency_stop", claim, change)

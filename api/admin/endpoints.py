"""`/admin`: pause, resume, emergency stop; each durable before it answers."""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncSession

from api.admin.signals import Order, hurry
from api.body import StrictRoute
from api.commands import AdminCommand, Command, EmergencyCommand
from api.idempotency import json_answer
from api.server import Server, ServerDep
from domain.base import Message
from domain.idempotency import Answer
from storage import audit, control, idempotency
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
_ACTIONS: dict[Order, audit.Action] = {
    "pause": "admin.pause",
    "resume": "admin.resume",
    "emergency_stop": "admin.emergency-stop",
}


async def _order(
    server: Server, command: Command, order: Order, reason: str | None, change: Change
) -> JSONResponse:
    """Commit the change, then hurry the workflows along in the background."""
    async with server.database.transaction() as session:
        earlier = await idempotency.earlier_answer(session, command.claim)
        if earlier is not None:
            return json_answer(earlier)
        revision = (await control.seize(session)).revision
        response, signal, work = await change(session)
        if signal.revision > revision:
            audit.record(session, command.actor, _ACTIONS[order], "control", {"reason": reason})
        answer = Answer(200, response.to_json())
        await idempotency.keep_answer(session, command.claim, answer)
    server.background.run(hurry(server, work, order, signal))
    await server.refresh()
    return json_answer(answer)


@router.post("/pause", response_model=PauseResponse)
async def pause(server: ServerDep, command: AdminCommand, body: PauseRequest | None = None) -> JSONResponse:
    """Hold every run before its next phase and every rollout in its step. Reads and reports go on."""
    reason = body.reason if body else None

    async def change(session: AsyncSession) -> tuple[Message, ControlSignal, OpenWork]:
        row = await control.pause(session, reason=reason, by=command.actor.name)
        response = PauseResponse(paused=True, paused_at=row.changed_at, reason=row.reason)
        return response, ControlSignal(revision=row.revision, reason=row.reason), await open_work(session)

    return await _order(server, command, "pause", reason, change)


@router.post("/resume", response_model=PauseResponse)
async def resume(server: ServerDep, command: AdminCommand, body: PauseRequest | None = None) -> JSONResponse:
    """End a pause or an emergency stop."""
    reason = body.reason if body else None

    async def change(session: AsyncSession) -> tuple[Message, ControlSignal, OpenWork]:
        row = await control.resume(session, by=command.actor.name)
        signal = ControlSignal(revision=row.revision, reason=reason)
        return PauseResponse(paused=False), signal, await open_work(session)

    return await _order(server, command, "resume", reason, change)


@router.post("/emergency-stop", response_model=EmergencyStopResponse)
async def emergency_stop(
    server: ServerDep, command: EmergencyCommand, body: EmergencyStopRequest
) -> JSONResponse:
    """End every run, take every rollout back, and let nothing start until resume. Never rate limited."""

    async def change(session: AsyncSession) -> tuple[Message, ControlSignal, OpenWork]:
        outcome = await control.emergency_stop(session, reason=body.reason, by=command.actor.name)
        response = EmergencyStopResponse(stopped=True, safe_mode=True, timestamp=outcome.timestamp)
        work = OpenWork(outcome.rollouts, outcome.optimizations)
        return response, ControlSignal(revision=outcome.revision, reason=body.reason), work

    return await _order(server, command, "emergency_stop", body.reason, change)

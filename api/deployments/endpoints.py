"""`/deployments`: rollouts with their steps and checks, and what people may do to them."""

from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse
from pydantic import Field

from api.auth import Reader
from api.body import StrictRoute
from api.commands import WriteCommand
from api.deployments.actions import Steering
from api.idempotency import json_answer
from api.paging import PageQuery
from api.server import ServerDep
from domain.base import Message
from domain.deployment import Deployment
from domain.scope import ScopeName, parse_scope
from storage import deployments, rollouts

router = APIRouter(prefix="/deployments", tags=["deployments"], route_class=StrictRoute)


class ActionRequest(Message):
    """Why it is done."""

    reason: str | None = Field(default=None, min_length=1, max_length=2000)


class DeploymentList(Message):
    """A page of rollouts, the newest first, and how many there are."""

    total: int
    deployments: list[Deployment]


@router.get("", response_model_exclude_none=True)
async def list_deployments(
    server: ServerDep, _: Reader, page: PageQuery, scope: ScopeName | None = None, open: bool = False
) -> DeploymentList:
    """Every rollout, or a scope's, or with `open` those that have not ended; the newest first."""
    name = None if scope is None else str(parse_scope(scope))
    async with server.database.transaction() as session:
        total, found = await deployments.list_deployments(
            session, scope=name, open_only=open, limit=page.limit, offset=page.offset
        )
    return DeploymentList(total=total, deployments=found)


@router.get("/{deployment_id}", response_model_exclude_none=True)
async def get_deployment(server: ServerDep, _: Reader, deployment_id: str) -> Deployment:
    """A rollout with its steps, and each guardrail as it was last seen in each."""
    async with server.database.transaction() as session:
        (found,) = await deployments.describe(session, [await rollouts.get(session, deployment_id)])
    return found


async def _steering(
    server: ServerDep, command: WriteCommand, deployment_id: str, body: ActionRequest | None = None
) -> Steering:
    return Steering(server, command, deployment_id, body.reason if body else None)


Steer = Annotated[Steering, Depends(_steering)]


@router.post("/{deployment_id}/pause", response_model=Deployment)
async def pause_deployment(steer: Steer) -> JSONResponse:
    """Keep the share and the time left; it is watched on, and still taken back when it harms."""
    return json_answer(await steer.carry_out("pause"))


@router.post("/{deployment_id}/resume", response_model=Deployment)
async def resume_deployment(steer: Steer) -> JSONResponse:
    """Go on from where it was paused."""
    return json_answer(await steer.carry_out("resume"))


@router.post("/{deployment_id}/approve", response_model=Deployment)
async def approve_deployment(steer: Steer) -> JSONResponse:
    """Give the approval that it waits for."""
    return json_answer(await steer.carry_out("approve"))


@router.post("/{deployment_id}/promote", response_model=Deployment)
async def promote_deployment(steer: Steer) -> JSONResponse:
    """End the present step now, as if its verdict were good."""
    return json_answer(await steer.carry_out("promote"))


@router.post("/{deployment_id}/abort", response_model=Deployment)
async def abort_deployment(steer: Steer) -> JSONResponse:
    """Take it back."""
    return json_answer(await steer.carry_out("abort"))

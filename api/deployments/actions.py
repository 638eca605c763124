"""What a person may do to a rollout, by way of its workflow."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.client import (
    WorkflowHandle,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.exceptions import ApplicationError

from api.commands import Command
from api.server import Server
from api.temporal import rpc_errors
from domain.deployment import OPEN_STATUSES, Deployment
from domain.errors import Conflict, NotFound, RollbackFailed, ServiceUnavailable, TimedOut
from domain.idempotency import Answer
from storage import audit, deployments, idempotency, rollback, rollouts
from storage.tables import Rollout
from workflows import messages as m
from workflows import starts
from workflows.rollout import RolloutWorkflow

Action = Literal["pause", "resume", "approve", "promote", "abort"]
_ACTIONS: dict[Action, audit.Action] = {
    "pause": "deployment.pause",
    "resume": "deployment.resume",
    "approve": "deployment.approve",
    "promote": "deployment.promote",
    "abort": "deployment.abort",
}
# With the time to settle less than a transaction may idle for.
WORKER_SECONDS = 10.0
SETTLE_SECONDS = 3.0
_LOOK_SECONDS = 0.05

_Handle = WorkflowHandle[RolloutWorkflow, m.RolloutOutcome]


@dataclass(frozen=True, slots=True)
class Steering:
    """A person's hand on a rollout; `reason` is why."""

    server: Server
    command: Command
    deployment_id: str
    reason: str | None

    async def carry_out(self, action: Action) -> Answer:
        """Act once, however often it is asked under one claim, and give the rollout as it then is.

        The audit entry is committed once the workflow has taken it, and where it is not known whether it has.

        Raises:
            NotFound: there is no such rollout.
            Conflict: it has ended, or is not in a state for this.
            TimedOut: no worker answered; it may still be done later.
            ServiceUnavailable: Temporal is out of reach.
            RollbackFailed: it failed before it could be taken back.
        """
        unanswered: TimedOut | None = None
        async with self.server.database.transaction() as session:
            earlier = await idempotency.earlier_answer(session, self.command.claim)
            if earlier is not None:
                return earlier
            row = await _open(session, self.deployment_id)
            try:
                await self._act(session, row, action)
            except TimedOut as error:
                unanswered = error
            self._record(session, action, unanswered)
            answer = Answer(200, (await _described(session, row)).to_json())
            if unanswered is None:
                await idempotency.keep_answer(session, self.command.claim, answer)
        await self.server.refresh()
        if unanswered is not None:
            raise unanswered
        if action == "abort" and row.status == "failed":
            raise RollbackFailed(
                f"{row.id} failed and was not taken back: {row.error}", details={"deploymentId": row.id}
            )
        return answer

    async def _act(self, session: AsyncSession, row: Rollout, action: Action) -> None:
        by = m.Act(by=self.command.actor.name, reason=self.reason)
        handle = starts.rollout_handle(await self.server.temporal.client(), row.id)
        try:
            with rpc_errors():
                await _send(handle, action, by)
        except NotFound as error:
            await _without_workflow(session, row, action, by, error)
        else:
            await _settle(self.server, row.id, _settled(action))

    def _record(self, session: AsyncSession, action: Action, unanswered: TimedOut | None) -> None:
        details = {"reason": self.reason, "outcome": "unknown" if unanswered else None}
        audit.record(session, self.command.actor, _ACTIONS[action], self.deployment_id, details)


async def _open(session: AsyncSession, deployment_id: str) -> Rollout:
    row = await rollouts.get(session, deployment_id)
    if row.status not in OPEN_STATUSES:
        raise Conflict(f"{deployment_id} has ended: {row.status}", details={"status": row.status})
    return row


async def _described(session: AsyncSession, row: Rollout) -> Deployment:
    await session.refresh(row)
    (described,) = await deployments.describe(session, [row])
    return described


async def _send(handle: _Handle, action: Action, by: m.Act) -> None:
    limit = timedelta(seconds=WORKER_SECONDS)
    match action:
        case "pause":
            await handle.signal(RolloutWorkflow.pause, args=[], rpc_timeout=limit)
        case "resume":
            await handle.signal(RolloutWorkflow.resume, args=[], rpc_timeout=limit)
        case "approve" | "promote" | "abort":
            try:
                async with asyncio.timeout(WORKER_SECONDS):
                    await handle.execute_update(getattr(RolloutWorkflow, action), by, rpc_timeout=limit)
            except WorkflowUpdateFailedError as error:
                raise Conflict(_reason(error)) from error
            except WorkflowUpdateRPCTimeoutOrCancelledError as error:
                raise TimedOut("no worker answered in time", retry_after=2) from error


def _reason(error: WorkflowUpdateFailedError) -> str:
    return error.cause.message if isinstance(error.cause, ApplicationError) else str(error.cause)


async def _without_workflow(
    session: AsyncSession, row: Rollout, action: Action, by: m.Act, error: NotFound
) -> None:
    """A rollout that nothing has begun yet can be taken back as it is."""
    if row.status != "pending":
        raise ServiceUnavailable("the rollout's workflow is not running", retry_after=5) from error
    if action != "abort":
        raise Conflict(f"{row.id} has not begun yet", details={"status": row.status}) from error
    locked = await rollouts.lock(session, row.id)
    reason = f"aborted by {by.by}" + (f": {by.reason}" if by.reason else "")
    await rollback.roll_back(session, locked, reason=reason, automatic=False)


def _settled(action: Action) -> Callable[[str], bool]:
    match action:
        case "pause":
            return lambda status: status == "paused"
        case "resume":
            return lambda status: status != "paused"
        case "approve":
            return lambda status: status != "awaiting_approval"
        case "promote":
            return lambda status: True
        case "abort":
            return lambda status: status not in OPEN_STATUSES


async def _settle(server: Server, deployment_id: str, settled: Callable[[str], bool]) -> None:
    """Wait a little for the rollout to show what was asked of it."""
    try:
        async with asyncio.timeout(SETTLE_SECONDS):
            while True:
                async with server.database.transaction() as session:
                    status = (await rollouts.get(session, deployment_id)).status
                if settled(status):
                    return
                await asyncio.sleep(_LOOK_SECONDS)
    except TimeoutError:
        return

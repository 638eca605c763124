"""The reconciler: what is open here but carried by nobody is taken back."""

from collections.abc import Awaitable, Callable
from typing import Literal

from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from domain.deployment import OPEN_STATUSES
from storage import optimizations, rollback, rollouts
from storage.database import Database
from storage.tables import Optimization, Rollout, db_clock

Kind = Literal["rollout", "optimization"]
WorkflowState = Literal["running", "closed", "missing", "unknown"]
Probe = Callable[[Kind, str], Awaitable[WorkflowState]]
"""Asks Temporal for the state of the workflow of a row; `unknown` when it does not answer."""

LAPSED = "nobody watched the canary: its lease ran out"


def _lapsed() -> ColumnElement[bool]:
    return and_(
        Rollout.status.in_(OPEN_STATUSES),
        Rollout.strategy != "immediate",
        Rollout.traffic_percent > 0,
        Rollout.watched_until < db_clock(),
    )


async def roll_back_lapsed(database: Database) -> list[str]:
    """Take back each canary that nobody watches. Needs nothing but PostgreSQL.

    Gives a line for each that was.
    """
    async with database.transaction() as session:
        query = select(Rollout).where(_lapsed()).order_by(Rollout.id).with_for_update(skip_locked=True)
        rows = list((await session.execute(query)).scalars())
        return [
            f"rollout {row.id} was rolled back: {LAPSED}"
            for row in rows
            if await rollback.roll_back(session, row, reason=LAPSED, automatic=True)
        ]


async def reconcile(database: Database, probe: Probe) -> list[str]:
    """Compare what is open with what Temporal runs, and mend. Gives a line for each thing mended."""
    notes = await roll_back_lapsed(database)
    async with database.transaction() as session:
        open_rollouts = await _carried_rollouts(session)
        open_runs = await _carried_runs(session)
    for deployment_id, fence in open_rollouts:
        if await probe("rollout", deployment_id) in ("closed", "missing"):
            notes += await _abandoned(database, deployment_id, fence)
    for optimization_id in open_runs:
        if await probe("optimization", optimization_id) in ("closed", "missing"):
            async with database.transaction() as session:
                if await optimizations.fail(session, optimization_id, "its workflow is gone"):
                    notes.append(f"optimization {optimization_id} failed: its workflow is gone")
    return notes


async def _carried_rollouts(session: AsyncSession) -> list[tuple[str, int]]:
    begun = or_(Rollout.status != "pending", Rollout.dispatched)
    query = select(Rollout.id, Rollout.fence).where(Rollout.status.in_(OPEN_STATUSES), begun)
    return [(row.id, row.fence) for row in await session.execute(query.order_by(Rollout.id))]


async def _carried_runs(session: AsyncSession) -> list[str]:
    begun = or_(Optimization.status == "running", Optimization.dispatched)
    query = select(Optimization.id).where(Optimization.status.in_(("queued", "running")), begun)
    return list((await session.execute(query.order_by(Optimization.id))).scalars())


async def _abandoned(database: Database, deployment_id: str, fence: int) -> list[str]:
    """Compensate for a rollout whose workflow is gone, if it is still as it was seen."""
    async with database.transaction() as session:
        row = await rollouts.lock(session, deployment_id)
        if row.fence != fence or row.status not in OPEN_STATUSES:
            return []
        if row.strategy == "immediate" and row.traffic_percent > 0:
            # It is served to everyone on a person's word; its watch alone has ended.
            await rollouts.fail(session, row, "its workflow is gone: it was not watched to the end")
        else:
            await rollback.roll_back(session, row, reason="its workflow is gone", automatic=True)
        return [f"rollout {deployment_id} is {row.status}: its workflow is gone"]

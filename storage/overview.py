"""What goes on at present, over all services."""

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from domain.deployment import OPEN_STATUSES
from domain.loop import LoopState
from storage import control
from storage.tables import Optimization, Rollout

_CONTROL: dict[str, LoopState] = {"stopped": "STOPPED", "paused": "PAUSED"}
_PHASES: dict[str, LoopState] = {
    "observe": "COLLECTING",
    "analyze": "ANALYZING",
    "decide": "DECIDING",
    "act": "VALIDATING",
}
_BUSIEST: tuple[LoopState, ...] = (
    "ROLLING_BACK",
    "DEPLOYING",
    "VALIDATING",
    "DECIDING",
    "ANALYZING",
    "COLLECTING",
    "MONITORING",
    "IDLE",
)
_RECENT_RUNS = 20


@dataclass(frozen=True, slots=True)
class Overview:
    """The busiest state over all services, rollouts by kind, the last run's start (ms, 0 for never)."""

    state: LoopState
    active: int
    pending: int
    last_run: int


@dataclass(frozen=True, slots=True)
class OpenWork:
    """Ids of what a workflow runs for, or will."""

    rollouts: list[str]
    optimizations: list[str]


async def overview(session: AsyncSession) -> Overview:
    """Read it."""
    counted = await session.execute(
        select(Rollout.status, func.count().label("number"))
        .where(Rollout.status.in_(OPEN_STATUSES))
        .group_by(Rollout.status)
    )
    statuses = {row.status: row.number for row in counted}
    phases = (
        await session.execute(select(Optimization.phase).where(Optimization.status == "running").distinct())
    ).scalars()
    state = (await control.get(session)).state
    last_run: int | None = await session.scalar(
        select(Optimization.started_at).order_by(Optimization.started_at.desc().nulls_last()).limit(1)
    )
    pending = statuses.get("pending", 0)
    return Overview(
        state=_CONTROL.get(state) or _busiest(statuses, list(phases)),
        active=sum(statuses.values()) - pending,
        pending=pending,
        last_run=last_run or 0,
    )


def _busiest(statuses: dict[str, int], phases: list[str]) -> LoopState:
    present: set[LoopState] = {_PHASES[phase] for phase in phases} | {"IDLE"}
    if "rolling_back" in statuses:
        present.add("ROLLING_BACK")
    if "pending" in statuses or "awaiting_approval" in statuses:
        present.add("DEPLOYING")
    if {"running", "paused", "held"} & set(statuses):
        present.add("MONITORING")
    return next(state for state in _BUSIEST if state in present)


async def open_work(session: AsyncSession) -> OpenWork:
    """Whatever a pause or a resume concerns."""
    rollouts = select(Rollout.id).where(Rollout.status.in_(OPEN_STATUSES)).order_by(Rollout.id)
    runs = select(Optimization.id).where(Optimization.status.in_(("queued", "running")))
    return OpenWork(
        list((await session.execute(rollouts)).scalars()),
        list((await session.execute(runs.order_by(Optimization.id))).scalars()),
    )


async def typical_run_ms(session: AsyncSession) -> int | None:
    """How long the latest runs took on average, in ms; None before the first has completed."""
    seconds = func.extract("epoch", Optimization.ended_at - Optimization.started_at)
    latest = (
        select(seconds.label("seconds"))
        .where(Optimization.status == "completed", Optimization.started_at.is_not(None))
        .order_by(Optimization.ended_at.desc())
        .limit(_RECENT_RUNS)
        .subquery()
    )
    mean = await session.scalar(select(func.avg(latest.c.seconds)))
    return None if mean is None else round(float(mean) * 1000)

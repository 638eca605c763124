"""The history of what was analysed, decided, rolled out and taken back: reads only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    CompoundSelect,
    Row,
    Select,
    and_,
    func,
    literal,
    null,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncSession

from domain.analysis.standing import Standing
from domain.config import LLMConfig
from domain.optimization_event import OptimizationEvent
from domain.plan import OptimizationPlan
from storage.tables import ConfigVersion, Optimization, OptimizedService, Rollout

_FIELDS = ("rank", "key", "scope", "at")
_ANALYSIS, _DECISION, _DEPLOYMENT, _ROLLBACK = range(4)
"""The order in which things that happen at the same moment follow from each other."""


async def list_events(
    session: AsyncSession,
    *,
    services: Sequence[str] | None = None,
    start: int | None = None,
    end: int | None = None,
    limit: int,
    offset: int,
) -> tuple[int, list[OptimizationEvent]]:
    """How many events there are in [start, end) (ms), and a page of them, the newest first.

    A service's are those of its endpoints as well.
    """
    happened = _happened().subquery()
    query = select(happened)
    if services:
        query = query.where(func.split_part(happened.c.scope, ":", 1).in_(services))
    if start is not None:
        query = query.where(happened.c.at >= start)
    if end is not None:
        query = query.where(happened.c.at < end)
    total = (await session.execute(select(func.count()).select_from(query.subquery()))).scalar_one()
    newest = query.order_by(
        happened.c.at.desc(), happened.c.rank.desc(), happened.c.key.desc(), happened.c.scope
    )
    page = (await session.execute(newest.limit(limit).offset(offset))).all()
    return total, await _load(session, page)


def _happened() -> CompoundSelect[Any]:
    """The keys of all that happened. What a service is told of a run is settled once it was decided on."""
    settled_at = func.coalesce(OptimizedService.decided_at, Optimization.ended_at)
    parts = _parts().where(settled_at.is_not(None))
    return union_all(
        _keys(parts.where(OptimizedService.analyzed_at.is_not(None)), _ANALYSIS, OptimizedService.analyzed_at),
        _keys(parts, _DECISION, settled_at),
        _keys(select(), _DEPLOYMENT, Rollout.created_at),
        _keys(select().where(Rollout.rollback.is_not(None)), _ROLLBACK, Rollout.ended_at),
    )

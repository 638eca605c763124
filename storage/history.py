"""The history of what was analysed, decided, rolled out and taken back: reads only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import CompoundSelect, Row, func, literal, select, tuple_, union_all
from sqlalchemy.ext.asyncio import AsyncSession

from domain.optimization_event import OptimizationEvent
from storage import history_events as told
from storage import ledger
from storage.tables import ConfigVersion, Optimization, OptimizedService, Rollout

_ANALYSIS, _DECISION, _DEPLOYMENT, _ROLLBACK = range(4)
"""Kinds, in the order in which they follow from each other at the same moment."""


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

    A service's are also those of its endpoints.
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
    newest = (column.desc() for column in (happened.c.at, happened.c.kind, happened.c.id, happened.c.scope))
    page = (await session.execute(query.order_by(*newest).limit(limit).offset(offset))).all()
    return total, await _events(session, page)


def _happened() -> CompoundSelect[Any]:
    """The keys of all that happened. What became of a service in a run is told once that is settled."""
    part, run, rollout = OptimizedService, Optimization, Rollout
    decided_at = func.coalesce(part.decided_at, run.ended_at)

    def of_runs(kind: int, at: Any) -> Any:
        named = (literal(kind).label("kind"), part.optimization_id.label("id"), part.service.label("scope"))
        query = select(*named, at.label("at")).join(run, run.id == part.optimization_id)
        return query.where(decided_at.is_not(None), at.is_not(None))

    def of_rollouts(kind: int, at: Any) -> Any:
        named = (literal(kind).label("kind"), rollout.id.label("id"), rollout.scope.label("scope"))
        return select(*named, at.label("at"))

    return union_all(
        of_runs(_ANALYSIS, part.analyzed_at),
        of_runs(_DECISION, decided_at),
        of_rollouts(_DEPLOYMENT, rollout.created_at),
        of_rollouts(_ROLLBACK, rollout.ended_at).where(rollout.rollback.is_not(None)),
    )


@dataclass(frozen=True, slots=True)
class _Records:
    """What a page of events is told from, by key."""

    parts: dict[tuple[str, str], OptimizedService]
    runs: dict[str, Optimization]
    rollouts: dict[str, Rollout]
    configs: dict[str, dict[str, Any]]
    improvements: dict[str, dict[str, float]]


async def _events(session: AsyncSession, page: Sequence[Row[Any]]) -> list[OptimizationEvent]:
    records = await _load(session, page)
    return [_event(records, key) for key in page]


async def _load(session: AsyncSession, page: Sequence[Row[Any]]) -> _Records:
    rollouts = {key.id for key in page if key.kind in (_DEPLOYMENT, _ROLLBACK)}
    parts = {(key.id, key.scope) for key in page if key.kind in (_ANALYSIS, _DECISION)}
    named = select(OptimizedService.deployment_id).where(
        tuple_(OptimizedService.optimization_id, OptimizedService.service).in_(parts)
    )
    query = select(Rollout).where(Rollout.id.in_(rollouts) | Rollout.id.in_(named))
    opened = {row.id: row for row in (await session.execute(query)).scalars()}
    parts |= {(row.optimization_id, row.scope) for row in opened.values() if row.optimization_id}
    by_key = tuple_(OptimizedService.optimization_id, OptimizedService.service).in_(parts)
    found = (await session.execute(select(OptimizedService).where(by_key))).scalars()
    runs = select(Optimization).where(Optimization.id.in_({run for run, _ in parts}))
    versions = {version for row in opened.values() for version in (row.from_version, row.to_version)}
    configs = select(ConfigVersion).where(ConfigVersion.version.in_(versions))
    return _Records(
        parts={(part.optimization_id, part.service): part for part in found},
        runs={row.id: row for row in (await session.execute(runs)).scalars()},
        rollouts=opened,
        configs={row.version: row.config for row in (await session.execute(configs)).scalars()},
        improvements=await ledger.improvements(session, sorted(opened)),
    )


def _event(records: _Records, key: Row[Any]) -> OptimizationEvent:
    if key.kind in (_ANALYSIS, _DECISION):
        part, run = records.parts[key.id, key.scope], records.runs[key.id]
        if key.kind == _ANALYSIS:
            return told.analysis(run, part, at=key.at)
        return told.decision(run, part, records.rollouts.get(part.deployment_id or ""), at=key.at)
    rollout = records.rollouts[key.id]
    before, after = records.configs[rollout.from_version], records.configs[rollout.to_version]
    improvements = records.improvements.get(rollout.id)
    if key.kind == _ROLLBACK:
        return told.rollback(rollout, served=after, restored=before, improvements=improvements, at=key.at)
    run_id = rollout.optimization_id or ""
    return told.deployment(
        rollout,
        before=before,
        after=after,
        run=records.runs.get(run_id),
        part=records.parts.get((run_id, rollout.scope)),
        improvements=improvements,
        at=key.at,
    )

"""What the analysis has found, as it is kept: reads only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from domain.analysis.anomaly import Anomaly
from domain.analysis.comparison import WindowTrend
from domain.analysis.trends import Trend
from domain.conditions import SEVERITIES, Severity, Window
from storage.tables import AnomalyEpisode, ChangeRecord, TrendRecord


async def open_anomalies(session: AsyncSession, services: Sequence[str]) -> dict[str, dict[str, Anomaly]]:
    """By service and metric the anomaly that is open, of several windows the gravest."""
    query = select(AnomalyEpisode).where(
        AnomalyEpisode.service.in_(services), AnomalyEpisode.ended_at.is_(None)
    )
    found: dict[str, dict[str, Anomaly]] = {}
    for row in (await session.execute(query)).scalars():
        anomaly, by_metric = anomaly_of(row), found.setdefault(row.service, {})
        before = by_metric.get(row.metric)
        if before is None or _weight(anomaly) > _weight(before):
            by_metric[row.metric] = anomaly
    return found


async def anomalies_between(session: AsyncSession, service: str, start: int, end: int) -> list[Anomaly]:
    """The anomalies of a service of which some part lies in [start, end) (ms), by their beginnings."""
    query = _within(select(AnomalyEpisode), start, end).where(AnomalyEpisode.service == service)
    ordered = query.order_by(AnomalyEpisode.started_at, AnomalyEpisode.id)
    return [anomaly_of(row) for row in (await session.execute(ordered)).scalars()]


async def latest_trends(
    session: AsyncSession, services: Sequence[str]
) -> dict[str, dict[tuple[str, Window], Trend]]:
    """By service, then by metric and window, the trend that was found last."""
    query = select(TrendRecord).where(TrendRecord.service.in_(services))
    found: dict[str, dict[tuple[str, Window], Trend]] = {}
    for row in (await session.execute(query)).scalars():
        told = WindowTrend.model_validate(row.trend)
        found.setdefault(row.service, {})[row.metric, told.window] = told.trend
    return found


@dataclass(frozen=True, slots=True)
class AnomalyFilter:
    """Which anomalies are asked for; None: all. Times are ms, of any part of an anomaly."""

    services: Sequence[str] | None = None
    metric: str | None = None
    min_severity: Severity | None = None
    is_open: bool | None = None
    start: int | None = None
    end: int | None = None


async def list_anomalies(
    session: AsyncSession, wanted: AnomalyFilter, *, limit: int, offset: int
) -> tuple[int, list[AnomalyEpisode]]:
    """How many anomalies there are, and a page of them, the latest beginning first."""
    query = _within(select(AnomalyEpisode), wanted.start, wanted.end)
    if wanted.services:
        query = query.where(AnomalyEpisode.service.in_(wanted.services))
    if wanted.metric is not None:
        query = query.where(AnomalyEpisode.metric == wanted.metric)
    if wanted.min_severity is not None:
        grave = SEVERITIES[SEVERITIES.index(wanted.min_severity) :]
        query = query.where(AnomalyEpisode.severity.in_(grave))
    if wanted.is_open is not None:
        ended = AnomalyEpisode.ended_at
        query = query.where(ended.is_(None) if wanted.is_open else ended.is_not(None))
    total = await _count(session, query)
    page = query.order_by(AnomalyEpisode.started_at.desc(), AnomalyEpisode.id.desc())
    return total, list((await session.execute(page.limit(limit).offset(offset))).scalars())


async def list_trends(
    session: AsyncSession,
    *,
    services: Sequence[str] | None,
    metric: str | None,
    window: Window | None,
    limit: int,
    offset: int,
) -> tuple[int, list[TrendRecord]]:
    """How many trends there are, and a page of them by service, metric and window."""
    query = select(TrendRecord)
    if services:
        query = query.where(TrendRecord.service.in_(services))
    if metric is not None:
        query = query.where(TrendRecord.metric == metric)
    if window is not None:
        query = query.where(TrendRecord.window == window)
    page = query.order_by(TrendRecord.service, TrendRecord.metric, TrendRecord.window)
    rows = (await session.execute(page.limit(limit).offset(offset))).scalars()
    return await _count(session, query), list(rows)


async def list_changes(
    session: AsyncSession, *, services: Sequence[str] | None, metric: str | None, limit: int, offset: int
) -> tuple[int, list[ChangeRecord]]:
    """How many changes were tested, and a page of them by service, metric and method."""
    query = select(ChangeRecord)
    if services:
        query = query.where(ChangeRecord.service.in_(services))
    if metric is not None:
        query = query.where(ChangeRecord.metric == metric)
    page = query.order_by(ChangeRecord.service, ChangeRecord.metric, ChangeRecord.method)
    rows = (await session.execute(page.limit(limit).offset(offset))).scalars()
    return await _count(session, query), list(rows)


def anomaly_of(row: AnomalyEpisode) -> Anomaly:
    """An anomaly from its record."""
    return Anomaly.model_validate({name: getattr(row, name) for name in Anomaly.model_fields})


def _weight(anomaly: Anomaly) -> tuple[int, float]:
    return SEVERITIES.index(anomaly.severity), anomaly.strength


def _within(query: Select[Any], start: int | None, end: int | None) -> Select[Any]:
    if start is not None:
        query = query.where(or_(AnomalyEpisode.ended_at.is_(None), AnomalyEpisode.ended_at > start))
    if end is not None:
        query = query.where(AnomalyEpisode.started_at < end)
    return query


async def _count(session: AsyncSession, query: Select[Any]) -> int:
    return (await session.execute(select(func.count()).select_from(query.subquery()))).scalar_one()

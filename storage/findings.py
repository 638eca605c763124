"""Changes against baselines, and trends: what they are made from, and the latest of every service."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from domain.analysis.comparison import (
    HISTORY_MS,
    TREND_STEP_MS,
    Comparison,
    Past,
    Reference,
    WindowTrend,
    compare,
    trends,
)
from domain.analysis.points import Series
from domain.analysis.watched import Point
from domain.analytics import HOUR_MS
from domain.conditions import WINDOW_MS, Window
from storage import series
from storage.baseline_refresh import served_since
from storage.tables import BaselineRecord, ChangeRecord, TrendRecord

AT_ONCE = 25
"""How many services are looked at in one transaction."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What a service's past says of it."""

    comparison: Comparison
    trends: list[WindowTrend]


async def find(session: AsyncSession, names: Sequence[str], now: int) -> dict[str, Findings]:
    """Compare some services at `now` (ms) with their past, and find their trends."""
    hour = now // HOUR_MS * HOUR_MS
    hourly = await series.read(session, names, HOUR_MS, hour - HISTORY_MS, hour)
    points: dict[Window, series.ServicePoints] = {}
    for window, step in TREND_STEP_MS.items():
        end = now // step * step
        # The hours of a week are among those of the history.
        since = end - WINDOW_MS[window]
        points[window] = (
            _since(hourly, since) if step == HOUR_MS else await series.read(session, names, step, since, end)
        )
    served = await served_since(session, names)
    golden = await references(session, names)

    def found() -> dict[str, Findings]:
        pasts = {
            name: Past(
                until=hour,
                hourly=_series(hourly.get(name, {}), HOUR_MS),
                changed_at=served[name][1] if name in served else None,
                golden=golden.get(name, {}),
            )
            for name in names
        }
        return {
            name: Findings(
                compare(past),
                trends(
                    past,
                    {
                        window: _series(points[window].get(name, {}), step)
                        for window, step in TREND_STEP_MS.items()
                    },
                    now,
                ),
            )
            for name, past in pasts.items()
        }

    return await asyncio.to_thread(found)


def _series(by_metric: Mapping[str, Sequence[Point]], length: int) -> dict[str, Series]:
    """Each metric's values at the middles of their windows."""
    return {
        metric: Series.of([point.at + length // 2 for point in points], [point.value for point in points])
        for metric, points in by_metric.items()
    }


def _since(read: series.ServicePoints, since: int) -> series.ServicePoints:
    return {
        name: {
            metric: [point for point in points if point.at >= since] for metric, points in by_metric.items()
        }
        for name, by_metric in read.items()
    }


async def references(session: AsyncSession, names: Sequence[str]) -> dict[str, dict[str, Reference]]:
    """By service and metric what a test against the golden baseline goes by."""
    query = select(BaselineRecord.service, BaselineRecord.reference).where(
        BaselineRecord.kind == "golden", BaselineRecord.service.in_(names)
    )
    return {
        row.service: {
            metric: Reference.model_validate(found) for metric, found in (row.reference or {}).items()
        }
        for row in await session.execute(query)
    }


async def refresh(session: AsyncSession, names: Sequence[str], now: int) -> int:
    """Find anew what is to be said of some services at `now` (ms); gives of how many there is anything."""
    found = await find(session, names, now)
    await keep(session, found, now)
    return sum(bool(of.comparison.changes or of.trends) for of in found.values())


async def keep(session: AsyncSession, found: Mapping[str, Findings], now: int) -> None:
    """Put these in place of what was found of the services before."""
    names = sorted(found)
    await session.execute(delete(ChangeRecord).where(ChangeRecord.service.in_(names)))
    await session.execute(delete(TrendRecord).where(TrendRecord.service.in_(names)))
    changes = [
        {
            "service": name,
            "method": change.method,
            "metric": change.metric,
            "change": change.to_json(),
            "computed_at": now,
        }
        for name in names
        for change in found[name].comparison.changes
    ]
    records = [
        {
            "service": name,
            "metric": told.trend.metric,
            "window": told.window,
            "trend": told.to_json(),
            "computed_at": now,
        }
        for name in names
        for told in found[name].trends
    ]
    if changes:
        await session.execute(insert(ChangeRecord), changes)
    if records:
        await session.execute(insert(TrendRecord), records)

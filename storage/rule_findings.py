"""What the analysis recorded of trends and anomalies, as rules and triggers read it."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from domain.analysis.agreement import agreeing
from domain.analysis.anomaly import Anomaly
from domain.analysis.trends import Trend
from domain.conditions import SEVERITIES, Severity
from domain.rules.signals import Findings, TrendReading
from storage import analysis
from storage.tables import SeriesState

PastFindings = Callable[[int], Findings]
"""What was known at a moment (ms)."""


async def present(session: AsyncSession, services: Sequence[str]) -> dict[str, Findings]:
    """By service, what is known now; a service of which nothing was ever analysed is left out."""
    watched = await _watched(session, services)
    anomalies = await analysis.open_anomalies(session, services)
    trends = await analysis.latest_trends(session, services)
    return {
        service: Findings(
            trends={key: _reading(found) for key, found in trends.get(service, {}).items()},
            anomalies=_gravest(anomalies.get(service, {}).values()) if service in watched else None,
        )
        for service in watched | trends.keys()
    }


async def past(session: AsyncSession, service: str, start: int, end: int) -> PastFindings:
    """What was known of a service at each moment in [start, end) (ms).

    An anomaly counts by the severity that it came to. Trends are not kept, so that those of then are unknown.
    """
    if service not in await _watched(session, [service]):
        return lambda at: Findings()
    anomalies = await analysis.anomalies_between(session, service, start, end)

    def known(at: int) -> Findings:
        running = (found for found in anomalies if found.started_at <= at < (found.ended_at or end))
        return Findings(anomalies=_gravest(running))

    return known


async def _watched(session: AsyncSession, services: Sequence[str]) -> set[str]:
    query = select(SeriesState.service).where(SeriesState.service.in_(services)).distinct()
    return set((await session.execute(query)).scalars())


def _reading(trend: Trend) -> TrendReading:
    direction = "flat" if trend.direction == "none" else trend.direction
    return TrendReading(direction, trend.change or 0.0, trend.significant)


def _gravest(anomalies: Iterable[Anomaly]) -> Mapping[str, Severity]:
    """The gravest of each metric, of those that are sure enough to act on."""
    found: dict[str, Severity] = {}
    for anomaly in (each for group in agreeing(anomalies) for each in group.anomalies):
        before = found.get(anomaly.metric, "low")
        found[anomaly.metric] = max(before, anomaly.severity, key=SEVERITIES.index)
    return found

"""Values of many services' metrics by window, in few statements."""

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from domain.analysis.watched import Point, points
from storage import rollup_reader
from storage.rollup_reader import Question, Span

ServicePoints = dict[str, dict[str, list[Point]]]
"""By service and metric, in the order of time."""
_AMOUNTS = ("latency", "cost", "tokens_output", "quality")


async def read(
    session: AsyncSession, services: Sequence[str] | None, length_ms: int, since: int, until: int
) -> ServicePoints:
    """What some services, or all, had in each window of `length_ms` that lies in [since, until) (ms).

    Windows are those of the clock, by the reports' own time; both ends are ends of windows. All endpoints of
    a service count. Metrics that rest on too little are left out.
    """
    question = Question(
        Span(since, until, length_ms),
        by=("service",),
        where="CAST(:services AS text[]) IS NULL OR r.service = ANY(:services)",
        parameters={"services": None if services is None else list(services)},
        amounts=_AMOUNTS,
        sketches=("latency",),
    )
    found: ServicePoints = defaultdict(lambda: defaultdict(list))
    async for cell in rollup_reader.read(session, question):
        for metric, point in points(cell.at, cell.totals, length_ms / 1000).items():
            found[cell.group[0] or ""][metric].append(point)
    for of_service in found.values():
        for values in of_service.values():
            values.sort(key=lambda point: point.at)
    return found

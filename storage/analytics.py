"""Metrics by time and group."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable

import numpy as np
from sqlalchemy.ext.asyncio import AsyncSession

from domain.analytics import LABELS, MINUTE_MS, Aggregation, MetricsQuery
from domain.errors import InvalidRequest
from domain.metrics import canonical
from domain.series import MAX_POINTS, Cell, Group, Readings
from storage import rollup_reader, rollup_sql
from storage.database import deadline
from storage.rollup_reader import Question, Span

QUERY_SECONDS = 20.0
MAX_MINUTES = 100_000
"""How many minutes of groups are folded at most."""
MAX_REPORTS = 5_000_000
"""How many reports are read one by one at most."""

_COLUMNS = dict(zip(LABELS, rollup_sql.LABELS, strict=True))
_FOLDS: dict[Aggregation, Callable[[list[float]], float]] = {
    "avg": lambda values: float(np.mean(values)),
    "sum": lambda values: float(np.sum(values)),
    "min": min,
    "max": max,
    "p95": lambda values: float(np.quantile(values, 0.95)),
    "p99": lambda values: float(np.quantile(values, 0.99)),
}


async def read(session: AsyncSession, query: MetricsQuery) -> Readings:
    """What the reports of the window come to: percentiles within 1 %, all else exactly.

    Raises:
        InvalidRequest: too much would have to be read.
        TimedOut: it takes too long.
    """
    question = _question(query)
    wanted = {canonical(name) for name in query.metrics}
    most = 2 * MAX_POINTS if query.aggregation is None else MAX_MINUTES
    requests: list[Cell] = []
    scores: list[Cell] = []
    async with deadline(session, QUERY_SECONDS):
        await _require_few_reports(session, question)
        async for found in rollup_reader.read(session, question):
            if len(requests) + len(scores) >= most:
                raise InvalidRequest(
                    "groupBy: too many groups in too many intervals or, with an aggregation, minutes; "
                    "ask for fewer dimensions, some services or less time"
                )
            totals, seconds = found.totals, question.span.seconds(found.at)
            if totals.n:
                requests.append(_cell(found, totals.of_requests(seconds), wanted))
            if totals.quality.n:
                scores.append(_cell(found, totals.of_scores(), wanted))
    if query.aggregation is not None:
        requests, scores = _folded(query, requests), _folded(query, scores)
    return Readings(requests, scores)


def _cell(found: rollup_reader.Cell, values: dict[str, float], wanted: Collection[str]) -> Cell:
    return Cell(found.group, found.at, {name: value for name, value in values.items() if name in wanted})


def _question(query: MetricsQuery) -> Question:
    """The window, cut into intervals, or into minutes of the clock where these are to be folded."""
    start, end = query.time_range.start, query.time_range.end
    period, origin = (query.interval, start) if query.aggregation is None else (MINUTE_MS, 0)
    wanted = [canonical(name) for name in query.metrics]
    return Question(
        span=Span(start, end, period, origin),
        by=[_COLUMNS.get(name, name) for name in query.group_by],
        where="CAST(:services AS text[]) IS NULL OR r.service = ANY(:services)",
        parameters={"services": query.services or None},
        amounts=rollup_reader.amounts_for(wanted),
        sketches=rollup_reader.sketches_for(wanted),
    )


def _folded(query: MetricsQuery, minutes: Iterable[Cell]) -> list[Cell]:
    """The values of minutes, folded; a minute counts for the interval in which it begins."""
    start = query.time_range.start
    listed: dict[tuple[Group, int], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for cell in minutes:
        at = start + (cell.at - start) // query.length * query.length
        values = listed[cell.group, at]
        for name, value in cell.values.items():
            values[name].append(value)
    fold = _FOLDS[query.aggregation or "avg"]
    return [
        Cell(group, at, {name: fold(found) for name, found in values.items()})
        for (group, at), values in listed.items()
    ]


async def _require_few_reports(session: AsyncSession, question: Question) -> None:
    """Refuse what rollups cannot tell of too many reports.

    They are read one by one for tags, and in minutes that an interval cuts in two.
    """
    reports = await rollup_reader.reports_to_read(session, question)
    if reports <= MAX_REPORTS:
        return
    if question.needs_reports:
        raise InvalidRequest(
            f"groupBy: by a tag, some {reports:,.0f} reports would be read one by one, more than "
            f"{MAX_REPORTS:,}; ask for less time or some services"
        )
    raise InvalidRequest(
        f"interval: with intervals that begin within a minute, some {reports:,.0f} reports would be read one "
        f"by one, more than {MAX_REPORTS:,}; let start and interval be whole minutes, or ask for less time"
    )

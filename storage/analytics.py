"""Metrics by time and group."""

import asyncio
from array import array
from collections.abc import Callable, Sequence

import numpy as np
from sqlalchemy.ext.asyncio import AsyncSession

from domain.analytics import LABELS, MINUTE_MS, Aggregation, MetricsQuery
from domain.errors import InvalidRequest
from domain.metrics import canonical
from domain.series import MAX_POINTS, Cell, Group, Readings
from domain.totals import of_requests
from storage import rollup_reader, rollup_sql
from storage.database import deadline
from storage.rollup_reader import Question, Span

QUERY_SECONDS = 20.0
MAX_MINUTES = 250_000
"""How many minutes of groups are folded at most."""
MAX_SERIES_MINUTES = 1_000_000
"""How many minutes of series, which share all labels, are read for that at most."""
MAX_REPORTS = 5_000_000
"""How many reports are read one by one at most."""

_COLUMNS = dict(zip(LABELS, rollup_sql.LABELS, strict=True))
_FOLDS: dict[Aggregation | None, Callable[[Sequence[float]], float]] = {
    None: lambda values: values[0],
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
    requests, scores = _Gathered(query), _Gathered(query)

    def gather(cells: Sequence[rollup_reader.Cell]) -> None:
        values = of_requests([(cell.totals, question.span.seconds(cell.at)) for cell in cells])
        for cell, of_cell in zip(cells, values, strict=True):
            if cell.totals.n:
                requests.add(cell, of_cell)
            if cell.totals.quality.n:
                scores.add(cell, cell.totals.of_scores())

    async with deadline(session, QUERY_SECONDS):
        await _require_few_reports(session, question)
        if query.aggregation is not None and not question.needs_reports:
            await _require_few_minutes(session, question)
        async for cells in rollup_reader.batches(session, question):
            await asyncio.to_thread(gather, cells)
            if len(requests) + len(scores) > 2 * MAX_POINTS:
                raise InvalidRequest(
                    "groupBy: too many groups in too many intervals; "
                    "ask for fewer dimensions, some services or less time"
                )
        return await asyncio.to_thread(lambda: Readings(requests.cells(), scores.cells()))


class _Gathered:
    """The values of the asked metrics by group and interval: one each or, with an aggregation, the minutes'.

    A minute counts for the interval in which it begins.
    """

    def __init__(self, query: MetricsQuery) -> None:
        self._query = query
        self._wanted = {canonical(name) for name in query.metrics}
        self._values: dict[tuple[Group, int], dict[str, array[float]]] = {}

    def __len__(self) -> int:
        return len(self._values)

    def add(self, cell: rollup_reader.Cell, values: dict[str, float]) -> None:
        start = self._query.time_range.start
        at = start + (cell.at - start) // self._query.length * self._query.length
        listed = self._values.setdefault((cell.group, at), {})
        for name in self._wanted & values.keys():
            listed.setdefault(name, array("d")).append(values[name])

    def cells(self) -> list[Cell]:
        """With what each interval's values fold to."""
        fold = _FOLDS[self._query.aggregation]
        return [
            Cell(group, at, {name: fold(values) for name, values in listed.items()})
            for (group, at), listed in self._values.items()
        ]


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


async def _require_few_minutes(session: AsyncSession, question: Question) -> None:
    """Refuse to fold more minutes than can be read in time."""
    rows, minutes = await rollup_reader.minutes_to_read(session, question)
    for found, most, what in (
        (minutes, MAX_MINUTES, "minutes of groups"),
        (rows, MAX_SERIES_MINUTES, "minutes of series"),
    ):
        if found > most:
            raise InvalidRequest(
                f"aggregation: up to {found:,.0f} {what} would be folded, more than {most:,}; ask for fewer "
                "dimensions, some services or less time, or for no aggregation"
            )


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

"""Metrics by time and group, read from the reports themselves."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import TextClause, bindparam, text
from sqlalchemy.ext.asyncio import AsyncSession

from domain.analytics import LABELS, MINUTE_MS, TAG_PREFIX, MetricsQuery
from domain.metrics import canonical
from domain.reports import MAX_AHEAD_MS
from domain.series import MAX_POINTS, Cell, Readings
from storage.database import deadline
from storage.metric_sql import OF_REQUESTS, OF_SCORES
from storage.observations import REQUEST_OF_SCORE
from storage.tables import Millis

QUERY_SECONDS = 20.0
CLOCKS_APART_MS = 5 * 60_000
"""By how much the clock that judged a report's timestamp may differ from that of its arrival."""

_FOLDS = {
    "avg": "avg({})",
    "sum": "sum({})",
    "min": "min({})",
    "max": "max({})",
    "p95": "percentile_cont(0.95) WITHIN GROUP (ORDER BY {})",
    "p99": "percentile_cont(0.99) WITHIN GROUP (ORDER BY {})",
}
_COLUMNS = dict(zip(LABELS, ("service", "endpoint", "provider", "model", "config_version"), strict=True))


@dataclass(frozen=True, slots=True)
class _Source:
    """A table as an alias, its metrics, and what its rows offer to be grouped by."""

    alias: str
    rows: str
    metrics: dict[str, str]
    labels: dict[str, str]
    tag: str


_REQUESTS = _Source(
    alias="m",
    rows="metrics m",
    metrics=OF_REQUESTS,
    labels={label: f"m.{column}" for label, column in _COLUMNS.items()},
    tag="m.tags ->> :{name}",
)
# A score has the labels of its request, except for the version, where it names one itself.
_SCORES = _Source(
    alias="q",
    rows="quality q",
    metrics=OF_SCORES,
    labels={label: f"m.{column}" for label, column in _COLUMNS.items()}
    | {"service": "q.service", "configVersion": "COALESCE(q.config_version, m.config_version)"},
    tag="COALESCE(m.tags ->> :{name}, q.tags ->> :{name})",
)


async def read(session: AsyncSession, query: MetricsQuery) -> Readings:
    """What the reports of the window come to.

    Percentiles are those of `percentile_cont`. More than can be answered is not read to its end.

    Raises:
        TimedOut: it takes too long.
    """
    wanted = sorted({canonical(name) for name in query.metrics})
    async with deadline(session, QUERY_SECONDS):
        return Readings(
            requests=await _cells(session, query, _REQUESTS, wanted),
            scores=await _cells(session, query, _SCORES, wanted),
        )


async def _cells(
    session: AsyncSession, query: MetricsQuery, source: _Source, wanted: Sequence[str]
) -> list[Cell]:
    metrics = [name for name in wanted if name in source.metrics]
    if not metrics:
        return []
    statement = _typed(_sql(query, source, metrics)).columns(at=Millis)
    found = await session.execute(statement, _parameters(query))
    dimensions = range(len(query.group_by))
    return [
        Cell(
            group=tuple(row[f"d{number}"] for number in dimensions),
            at=row["at"],
            values={
                name: row[f"v{number}"]
                for number, name in enumerate(metrics)
                if row[f"v{number}"] is not None
            },
        )
        for row in found.mappings()
    ]


def _typed(sql: str) -> TextClause:
    return text(sql).bindparams(*(bindparam(name, type_=Millis) for name in ("since", "until", "arrived")))


def _sql(query: MetricsQuery, source: _Source, metrics: Sequence[str]) -> str:
    """The statement. Names become SQL of this module's own; whatever a client wrote is a parameter.

    Rows get their period, an interval or, to be folded, a minute of the clock; a minute counts for the
    interval in which it begins.
    """
    folded = query.aggregation is not None
    alias = source.alias
    origin = "to_timestamp(0)" if folded else ":since"
    dimensions = [_dimension(source, name, number) for number, name in enumerate(query.group_by)]
    names = [f"d{number}" for number in range(len(dimensions))]
    groups = "".join(f", {name}" for name in names)
    values = "".join(f", ({source.metrics[name]})::float8 AS v{n}" for n, name in enumerate(metrics))
    joined = REQUEST_OF_SCORE if alias == "q" and any("m." in sql for sql in dimensions) else ""
    shown = "".join(f", {sql} AS {name}" for sql, name in zip(dimensions, names, strict=True))
    by_period = f"""
        SELECT GREATEST(period, :since) AS at{groups}{values}
        FROM (
            SELECT {alias}.*, extract(epoch FROM LEAST(period + :period, :until) - GREATEST(period, :since))
                   AS seconds
            FROM (
                SELECT {alias}.*, date_bin(:period, {alias}.ts, {origin}) AS period{shown}
                FROM {source.rows} {joined}
                WHERE {alias}.ts >= :since AND {alias}.ts < :until AND {alias}.received_at >= :arrived
                  AND (CAST(:services AS text[]) IS NULL OR {alias}.service = ANY(:services))
            ) {alias}
        ) {alias}
        GROUP BY period{groups}
    """
    if query.aggregation is None:
        return f"{by_period} LIMIT :rows"
    fold = _FOLDS[query.aggregation]
    folds = "".join(f", {fold.format(f'v{number}')} AS v{number}" for number in range(len(metrics)))
    return f"""
        SELECT date_bin(:interval, by_minute.at, :since) AS at{groups}{folds}
        FROM ({by_period}) by_minute
        GROUP BY 1{groups} LIMIT :rows
    """


def _dimension(source: _Source, name: str, number: int) -> str:
    return source.tag.format(name=f"tag{number}") if name.startswith(TAG_PREFIX) else source.labels[name]


def _parameters(query: MetricsQuery) -> dict[str, Any]:
    period = query.length if query.aggregation is None else MINUTE_MS
    parameters = {
        "since": query.time_range.start,
        "until": query.time_range.end,
        "arrived": query.time_range.start - MAX_AHEAD_MS - CLOCKS_APART_MS,
        "period": timedelta(milliseconds=period),
        "interval": timedelta(milliseconds=query.length),
        "services": query.services or None,
        "rows": MAX_POINTS + 1,
    }
    tags = {
        f"tag{number}": name.removeprefix(TAG_PREFIX)
        for number, name in enumerate(query.group_by)
        if name.startswith(TAG_PREFIX)
    }
    return parameters | tags

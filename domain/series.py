"""The answer to a question about metrics, put together from what was read."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from domain.analytics import MetricsQuery
from domain.base import Message
from domain.errors import InvalidRequest
from domain.metrics import canonical

MAX_GROUPS = 500
MAX_POINTS = 50_000

TOTALS = frozenset({"requests.count", "requests.rate", "errors.count", "cost.total"})
"""What is 0, not unknown, where there were no requests."""

Group = tuple[str | None, ...]
"""The values of the asked dimensions; None where a request lacks one."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What a group had in the interval that starts at `at` (ms): values by the metrics' full names."""

    group: Group
    at: int
    values: dict[str, float]


@dataclass(frozen=True, slots=True)
class Readings:
    """Cells from requests and from scores; an interval of a group without any has none."""

    requests: Sequence[Cell]
    scores: Sequence[Cell]

    @property
    def cells(self) -> Iterable[Cell]:
        yield from self.requests
        yield from self.scores


class DataPoint(Message):
    """A value; `timestamp` is the start of its interval, or of the window.

    `dimensions` are those asked for, without the ones that the requests lack.
    """

    timestamp: int
    value: float
    dimensions: dict[str, str] | None = None


class MetricSeries(Message):
    """A metric, named as it was asked for, with its points by group and time.

    Where there were no requests, totals (requests.count, requests.rate, errors.count, cost.total) are 0 for
    every group that the window has; with an aggregation other than `sum` they have no point there. Everything
    else, and a cost that nobody knows, never has one.
    """

    metric: str
    data_points: list[DataPoint]


class MetricsQueryResponse(Message):
    """A series per metric, in the order asked."""

    metrics: list[MetricSeries]


def answer(query: MetricsQuery, readings: Readings) -> MetricsQueryResponse:
    """Series of what was read.

    Raises:
        InvalidRequest: too many groups or points.
    """
    groups = _groups(query, readings)
    values = {(cell.group, cell.at): dict[str, float]() for cell in readings.cells}
    for cell in readings.cells:
        values[cell.group, cell.at].update(cell.values)
    served = {(cell.group, cell.at) for cell in readings.requests}
    series = []
    for asked in query.metrics:
        metric = canonical(asked)
        fills = metric in TOTALS and query.aggregation in (None, "sum")
        points = []
        for group in groups:
            dimensions = _dimensions(query, group)
            for at in query.starts:
                value = values.get((group, at), {}).get(metric)
                if value is None and fills and (group, at) not in served:
                    value = 0.0
                if value is not None:
                    points.append(DataPoint(timestamp=at, value=value, dimensions=dimensions))
        series.append(MetricSeries(metric=asked, data_points=points))
    return MetricsQueryResponse(metrics=series)


def _groups(query: MetricsQuery, readings: Readings) -> list[Group]:
    """The groups that appear, sorted; without dimensions everything is one group, even nothing."""
    found = {cell.group for cell in readings.cells} if query.group_by else {()}
    if len(found) > MAX_GROUPS:
        raise InvalidRequest(
            f"groupBy: more than {MAX_GROUPS} groups; ask for fewer dimensions, some services or less time"
        )
    points = len(found) * len(query.starts) * len(query.metrics)
    if points > MAX_POINTS:
        raise InvalidRequest(
            f"interval: {len(query.starts):,} intervals of {len(query.metrics)} metrics for {len(found)} "
            f"groups make {points:,} points, more than {MAX_POINTS:,}; ask for fewer of any"
        )
    return sorted(found, key=lambda group: [(value is None, value or "") for value in group])


def _dimensions(query: MetricsQuery, group: Group) -> dict[str, str] | None:
    if not query.group_by:
        return None
    return {name: value for name, value in zip(query.group_by, group, strict=True) if value is not None}

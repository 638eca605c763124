"""Histograms that count LLM calls and their tokens, read from the points of a request."""

import hashlib
from dataclasses import dataclass, field
from itertools import pairwise
from math import isfinite
from typing import NamedTuple

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, HistogramDataPoint, Metric

from api.otlp import attributes
from api.otlp.attributes import text
from api.otlp.batches import Problems
from api.otlp.spans import NO_SERVICE, service_name
from domain.reports import MAX_ITEMS
from domain.telemetry import SeriesState

DURATION = "gen_ai.client.operation.duration"
USAGE = "gen_ai.client.token.usage"
_PER_SECOND = {"s": 1.0, "ms": 1e-3}
_LATEST = 2**63 - 1
MOST = 1e15
"""What a sum or a count may be."""
_CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE


class Calls(NamedTuple):
    """Whose calls a series counts, errors and tokens aside."""

    service: str
    provider: str | None
    model: str | None
    endpoint: str
    version: str | None
    emitter: bytes


@dataclass(frozen=True, slots=True)
class Point:
    """A histogram's point. `series` tells it from all others; `start` is when it began to count (ns).

    `kind` is the type of its errors, or of its tokens. `factor` makes seconds of its values.
    """

    calls: Calls
    kind: str | None
    series: bytes
    cumulative: bool
    start: int
    state: SeriesState
    bounds: tuple[float, ...]
    factor: float


@dataclass(slots=True)
class Points:
    """The points of a request that count calls, and those that count their tokens."""

    durations: list[Point] = field(default_factory=list)
    usages: list[Point] = field(default_factory=list)
    problems: Problems = field(default_factory=Problems)

    @property
    def all(self) -> list[Point]:
        """Of both kinds."""
        return [*self.durations, *self.usages]


def read(request: ExportMetricsServiceRequest) -> Points:
    """The points of LLM calls. Metrics of other things are passed over."""
    found = Points()
    for resource in request.resource_metrics:
        service = service_name(attributes.read(resource.resource.attributes))
        emitter = resource.resource.SerializeToString(deterministic=True)
        for scope in resource.scope_metrics:
            source = emitter + scope.scope.SerializeToString(deterministic=True)
            for metric in scope.metrics:
                if metric.name in (DURATION, USAGE):
                    _read(found, service, metric, source)
    return found


def _read(found: Points, service: str | None, metric: Metric, source: bytes) -> None:
    fault = _fault(service, metric)
    if service is None or fault is not None:
        data = getattr(metric, metric.WhichOneof("data") or "histogram")
        found.problems.reject(metric.name, fault or NO_SERVICE, len(data.data_points))
        return
    for data_point in metric.histogram.data_points:
        fault = _fault_of(data_point)
        if fault is not None:
            found.problems.reject(metric.name, fault)
        elif len(found.durations) + len(found.usages) >= MAX_ITEMS:
            found.problems.reject(metric.name, f"more than {MAX_ITEMS:,} in one request")
        else:
            points = found.durations if metric.name == DURATION else found.usages
            points.append(_point(service, metric, source, data_point))


def _fault(service: str | None, metric: Metric) -> str | None:
    if service is None:
        return NO_SERVICE
    if metric.WhichOneof("data") != "histogram":
        return "only histograms with explicit buckets are read"
    if metric.name == DURATION and metric.unit not in _PER_SECOND:
        return f"the unit must be s or ms, not {metric.unit[:16]!r}"
    return None


def _fault_of(data_point: HistogramDataPoint) -> str | None:
    counts, bounds = data_point.bucket_counts, data_point.explicit_bounds
    if (counts or bounds) and (len(counts) != len(bounds) + 1 or sum(counts) != data_point.count):
        return "the buckets do not fit the bounds or the count"
    if bounds and (bounds[0] < 0 or not isfinite(bounds[-1])):
        return "the bounds are out of range"
    if not all(low < high for low, high in pairwise(bounds)):
        return "the bounds do not ascend"
    if not data_point.HasField("sum") or not 0 <= data_point.sum < MOST or data_point.count > MOST:
        return "the sum or the count is missing or out of range"
    if not max(1, data_point.start_time_unix_nano) <= data_point.time_unix_nano <= _LATEST:
        return "the time is missing or before the start"
    return None


def _point(service: str, metric: Metric, source: bytes, data_point: HistogramDataPoint) -> Point:
    labels = attributes.read(data_point.attributes)
    cumulative = metric.histogram.aggregation_temporality == _CUMULATIVE
    pairs = sorted(pair.SerializeToString(deterministic=True) for pair in data_point.attributes)
    start = data_point.start_time_unix_nano if cumulative else 0
    parts = (source, metric.name.encode(), *pairs, str(start).encode())
    buckets = tuple(data_point.bucket_counts) if len(data_point.explicit_bounds) else ()
    return Point(
        calls=Calls(
            service=service,
            provider=text(labels, "provider"),
            model=text(labels, "model"),
            endpoint=text(labels, "endpoint") or text(labels, "operation") or "chat",
            version=text(labels, "version"),
            emitter=source,
        ),
        kind=text(labels, "error" if metric.name == DURATION else "tokenType"),
        series=hashlib.sha256(b"".join(len(part).to_bytes(8) + part for part in parts)).digest(),
        cumulative=cumulative,
        start=data_point.start_time_unix_nano,
        state=SeriesState(data_point.time_unix_nano, data_point.count, data_point.sum, buckets),
        bounds=tuple(data_point.explicit_bounds),
        factor=_PER_SECOND.get(metric.unit, 1.0),
    )

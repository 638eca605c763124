"""What the process tells Prometheus."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from storage.intake import Intake


@dataclass(slots=True)
class ReadCounts:
    """Reads of configurations answered at once: with one, and with 304. A lock for each would be felt."""

    found: int = 0
    unchanged: int = 0


class Instruments:
    """An application's own registry. Labels are route templates, never paths."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "llm_optimizer_http_requests_total",
            "Answered requests.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.durations = Histogram(
            "llm_optimizer_http_request_duration_seconds",
            "Time to answer a request.",
            ("method", "route"),
            registry=self.registry,
        )

        self._calls = Counter(
            "llm_optimizer_grpc_requests_total",
            "Answered calls.",
            ("method", "code"),
            registry=self.registry,
        )
        self._call_durations = Histogram(
            "llm_optimizer_grpc_request_duration_seconds",
            "Time to answer a call; of a stream, how long it was open.",
            ("method",),
            registry=self.registry,
        )
        self.reads = ReadCounts()
        self.registry.register(_ReadsCollector(self.reads))

    def watch(self, intake: "Intake") -> None:
        """Tell of an intake as well."""
        self.registry.register(_IntakeCollector(intake))

    def measure_call(self, method: str, code: str, seconds: float) -> None:
        """Count a gRPC call by its `/<service>/<method>` and the name of its status."""
        self._calls.labels(method, code).inc()
        self._call_durations.labels(method).observe(seconds)

    def exposition(self) -> bytes:
        """The text format."""
        return generate_latest(self.registry)


class _IntakeCollector(Collector):
    def __init__(self, intake: "Intake") -> None:
        self._intake = intake

    def collect(self) -> Iterator[Metric]:
        stats = self._intake.stats
        yield CounterMetricFamily(
            "llm_optimizer_reports_committed", "Reports of calls and of quality kept.", value=stats.committed
        )
        yield GaugeMetricFamily(
            "llm_optimizer_reports_buffered", "Reports that wait for their commit.", value=stats.buffered
        )
        yield GaugeMetricFamily(
            "llm_optimizer_reports_buffered_early",
            "Reports that wait for their commit and were answered before it.",
            value=stats.early,
        )
        yield CounterMetricFamily(
            "llm_optimizer_reports_lost",
            "Reports that were answered before their commit and could never be written.",
            value=stats.lost,
        )


class _ReadsCollector(Collector):
    def __init__(self, counts: ReadCounts) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        reads = CounterMetricFamily(
            "llm_optimizer_config_reads", "Configurations handed out from memory.", labels=("status",)
        )
        reads.add_metric(("200",), self._counts.found)
        reads.add_metric(("304",), self._counts.unchanged)
        yield reads

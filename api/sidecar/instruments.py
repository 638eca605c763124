"""What the spool tells Prometheus."""

from collections.abc import Iterator
from dataclasses import fields

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from api.sidecar.writer import Counts, Writer

_PREFIX = "llm_optimizer_sidecar"


class SpoolCollector(Collector):
    """Reports by what became of them, and what waits."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def collect(self) -> Iterator[Metric]:
        """The present values."""
        reports = CounterMetricFamily(
            f"{_PREFIX}_reports", "Reports by what became of them.", labels=("outcome",)
        )
        for field in fields(Counts):
            reports.add_metric((field.name,), getattr(self._writer.counts, field.name))
        yield reports
        items, size = self._writer.waiting
        yield GaugeMetricFamily(f"{_PREFIX}_spooled_reports", "Reports that wait on disk.", value=items)
        yield GaugeMetricFamily(f"{_PREFIX}_spooled_bytes", "Their bytes.", value=size)

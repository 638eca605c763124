"""What conditions are judged by: readings of metrics, trends and anomalies, each of which may be unknown."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from domain.conditions import Severity, Window
from domain.totals import Totals


@dataclass(frozen=True, slots=True)
class Reading:
    """A metric over a window: its value (None where nothing tells), and the calls or scores it rests on."""

    value: float | None
    samples: int


@dataclass(frozen=True, slots=True)
class TrendReading:
    """Where a metric is going: `change` is a signed fraction over the window."""

    direction: Literal["up", "down", "flat"]
    change: float
    significant: bool


@dataclass(frozen=True, slots=True)
class AnomalyReading:
    """The severity of a metric's open anomaly; None where none is open."""

    severity: Severity | None


class Signals(Protocol):
    """What is known of a service at a moment. None: it is not known."""

    def reading(self, metric: str, window: Window, back: int) -> Reading | None:
        """A metric over the window that ended `back` windows before the moment."""
        ...

    def trend(self, metric: str, window: Window) -> TrendReading | None:
        """A metric's trend over the window up to the moment."""
        ...

    def anomaly(self, metric: str) -> AnomalyReading | None:
        """Whether an anomaly of a metric is open."""
        ...


@dataclass(frozen=True, slots=True)
class WindowFacts:
    """A window's metrics, and the calls or scores that there were by kind of metric (`latency`, `cost`)."""

    values: Mapping[str, float]
    samples: Mapping[str, int]

    @classmethod
    def of(cls, totals: Totals, seconds: float) -> "WindowFacts":
        """What totals come to over so many seconds. Where nothing was called, that is known too."""
        none = {"requests.count": 0.0, "requests.rate": 0.0}
        return cls(
            values=none | totals.of_requests(seconds) | totals.of_scores(),
            samples={
                "requests": totals.n,
                "errors": totals.n,
                "latency": totals.latency.n,
                "cost": totals.cost.n,
                "tokens": totals.n - totals.errors,
                "quality": totals.quality.n,
            },
        )

    def reading(self, metric: str) -> Reading:
        """A metric's reading."""
        return Reading(self.values.get(metric), self.samples[metric.partition(".")[0]])


@dataclass(frozen=True, slots=True)
class Findings:
    """What the analysis found of a service: trends by metric and window, open anomalies by metric.

    A trend that is not there is not known. `anomalies` None: whether any is open is not known.
    """

    trends: Mapping[tuple[str, Window], TrendReading] = field(default_factory=dict)
    anomalies: Mapping[str, Severity] | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Signals that were read beforehand: windows by length and how many windows back they ended."""

    windows: Mapping[tuple[Window, int], WindowFacts]
    findings: Findings = field(default_factory=Findings)

    def reading(self, metric: str, window: Window, back: int) -> Reading | None:
        facts = self.windows.get((window, back))
        return None if facts is None else facts.reading(metric)

    def trend(self, metric: str, window: Window) -> TrendReading | None:
        return self.findings.trends.get((metric, window))

    def anomaly(self, metric: str) -> AnomalyReading | None:
        known = self.findings.anomalies
        return None if known is None else AnomalyReading(known.get(metric))

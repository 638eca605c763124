"""What an analysis of a service comes to, in one object and in one line."""

from collections.abc import Iterator

from pydantic import Field

from domain.analysis.anomaly import Anomaly
from domain.analysis.changes import Change
from domain.analysis.comparison import WindowTrend
from domain.analysis.standing import Standing
from domain.analysis.windows import Missing
from domain.base import Message

_BASES = {
    "same-hour": "the same hours of {n} days",
    "pre-change": "before the last change",
    "rolling": "the day before",
    "golden": "the golden baseline",
}


class Analysis(Message):
    """How a service stands against its constraints and its past.

    `changes` are all that could be tested, `untested` says of the other metrics why they could not; `trends`
    are those that are significant; `anomalies` those that are open.
    """

    standing: Standing
    changes: list[Change] = Field(default_factory=list)
    untested: list[Missing] = Field(default_factory=list)
    trends: list[WindowTrend] = Field(default_factory=list)
    anomalies: list[Anomaly] = Field(default_factory=list)

    def in_words(self) -> str:
        """One line: how it stands, and what is out of the ordinary."""
        return ". ".join([self.standing.in_words(), *self._findings()])

    def _findings(self) -> Iterator[str]:
        changed = [change for change in self.changes if change.significant]
        if changed:
            yield "Changed: " + "; ".join(_changed(change) for change in changed)
        if self.trends:
            yield "Trends: " + "; ".join(_trend(found) for found in self.trends)
        if self.anomalies:
            yield "Anomalies: " + "; ".join(_anomaly(anomaly) for anomaly in self.anomalies)


def _changed(change: Change) -> str:
    base = _BASES[change.method].format(n=change.n)
    by = "" if change.change is None else f" ({change.change:+.0%})"
    return f"{change.metric} {change.now:.4g}{by} against {change.before:.4g} of {base}"


def _trend(found: WindowTrend) -> str:
    trend = found.trend
    by = "" if trend.change is None else f" by {abs(trend.change):.0%}"
    return f"{trend.metric} {trend.direction}{by} over {found.window}"


def _anomaly(anomaly: Anomaly) -> str:
    return (
        f"{anomaly.metric} {anomaly.value:.4g} where {anomaly.low:.4g} to {anomaly.high:.4g} was expected "
        f"({anomaly.severity})"
    )

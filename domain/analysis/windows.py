"""A service's metrics over the windows that lead up to now, and what of them cannot be told."""

from collections.abc import Iterable, Mapping
from math import inf
from typing import Any

from pydantic import Field

from domain.base import Message
from domain.conditions import WINDOW_MS, Window
from domain.metrics import METRICS, MetricName
from domain.totals import Totals

MIN_REQUESTS = 20
MIN_SCORES = 10
"""A mean, rate or percentile of fewer is noise."""
MAX_VERSIONS = 8


class Missing(Message):
    """A metric that cannot be told, and why."""

    metric: MetricName
    reason: str


class WindowReading(Message):
    """The last `window` of a service, or of one of its versions: its metrics, and those that are missing."""

    window: Window
    requests: int
    metrics: dict[MetricName, float]
    missing: list[Missing]


class VersionReadings(Message):
    """The windows in which a version served; `version` is absent for reports that named none."""

    version: str | None = None
    windows: list[WindowReading]


class Windows(Message):
    """All windows that end at `until` (ms), of the service and of its most used versions."""

    until: int
    service: list[WindowReading]
    versions: list[VersionReadings] = Field(max_length=MAX_VERSIONS)


ByVersion = Mapping[str | None, Totals]


def windows_of(until: int, read: Mapping[Window, ByVersion], known_since: int | None) -> Windows:
    """The readings of what each window has of each version; `known_since` is when the service was first heard
    of (ms), None if for as long as any window.
    """
    totals: dict[str | None, int] = {}
    for by_version in read.values():
        for version, found in by_version.items():
            totals[version] = max(totals.get(version, 0), found.n)
    used = sorted(
        (version for version, n in totals.items() if n), key=lambda name: (-totals[name], name or "")
    )
    known_ms = inf if known_since is None else until - known_since
    return Windows(
        until=until,
        service=[
            reading(window, sum(by_version.values(), Totals()), known_ms)
            for window, by_version in read.items()
        ],
        versions=[
            VersionReadings(
                version=version,
                windows=[
                    reading(window, by_version[version], known_ms)
                    for window, by_version in read.items()
                    if version in by_version
                ],
            )
            for version in used[:MAX_VERSIONS]
        ],
    )


def reading(window: Window, totals: Totals, known_ms: float) -> WindowReading:
    """A window's metrics; what rests on too little is missing, with the reason."""
    length = WINDOW_MS[window]
    values = _nothing() | totals.of_requests(length / 1000) | totals.of_scores()
    reasons = {name: reason for name in METRICS if (reason := lack(name, totals))}
    if known_ms < length:
        known = f"{max(known_ms, 0) / 3_600_000:.3g} of {length / 3_600_000:.3g} hours"
        reasons["requests.rate"] = f"the service is known for {known}"
    return WindowReading.model_validate(
        {
            "window": window,
            "requests": totals.n,
            "metrics": {name: value for name, value in values.items() if name not in reasons},
            "missing": [{"metric": name, "reason": reason} for name, reason in reasons.items()],
        }
    )


def lack(metric: str, totals: Totals) -> str | None:
    """Why a metric of these totals cannot be told; None where it can."""
    kind, _, of = metric.partition(".")
    if metric in _nothing():
        return None
    if kind == "quality":
        return _too_few(totals.quality.n, MIN_SCORES, "scores")
    if kind == "cost":
        if totals.n and not totals.cost.n:
            return "no call's cost is known"
        least = MIN_REQUESTS if of == "avg" else 1
        return _too_few(totals.cost.n, least, "calls of known cost")
    if kind == "errors":
        return _too_few(totals.n, MIN_REQUESTS, "requests")
    return _too_few(totals.latency.n, MIN_REQUESTS, "successful requests")


def _too_few(n: int, least: int, what: str) -> str | None:
    if n >= least:
        return None
    return f"{n} {what}, fewer than {least}" if n else f"no {what}"


def _nothing() -> dict[str, Any]:
    """What is 0, not unknown, without any request."""
    return {"requests.count": 0.0, "requests.rate": 0.0, "errors.count": 0.0}


def missing_in_words(readings: Iterable[WindowReading], window: Window) -> str:
    """What a window lacks, in a clause; empty where it has everything."""
    lacking = [missing for read in readings if read.window == window for missing in read.missing]
    by_reason: dict[str, list[str]] = {}
    for missing in lacking:
        by_reason.setdefault(missing.reason, []).append(missing.metric)
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in by_reason.items())

"""What is watched for anomalies: which metrics, over which windows, and what a window must have to count.

Watched is what a change of configuration or a provider's trouble moves: latency (its tail and its mean apart,
since a provider's queue moves the one and a model the other), cost, errors, quality, the length of answers
and the rate of requests. Totals and the other percentiles follow from these.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from typing import Literal

from pydantic import Field

from domain.analysis.alarms import Alarms, AlarmState, Change
from domain.analysis.anomaly import Anomaly
from domain.analysis.detector import Detector, DetectorState
from domain.analysis.windows import lack
from domain.analytics import DAY_MS
from domain.base import Message
from domain.conditions import WINDOW_MS
from domain.metrics import HIGHEST, WATCHED
from domain.totals import Totals

WatchedWindow = Literal["1m", "5m", "1h"]
WATCHED_WINDOWS: tuple[WatchedWindow, ...] = ("1m", "5m", "1h")
SILENCE_MS = 6 * 3_600_000
"""An anomaly of which nothing is heard for so long is over."""
IDLE_MS = 7 * DAY_MS
"""A service without requests for so long has no rate of requests any more."""


@dataclass(frozen=True, slots=True)
class Point:
    """A metric's value in the window that begins at `at` (ms), and the requests and errors of that window."""

    at: int
    value: float
    requests: int
    errors: int


def points(at: int, totals: Totals, seconds: float) -> dict[str, Point]:
    """The watched metrics of a window of so many seconds; those that rest on too little are left out."""
    values = {"requests.rate": 0.0} | totals.of_requests(seconds) | totals.of_scores()
    return {
        metric: Point(at, values[metric], totals.n, totals.errors)
        for metric in WATCHED
        if metric in values and lack(metric, totals) is None
    }


class SeriesMemory(Message):
    """All that is kept of a series between two windows."""

    detector: DetectorState = Field(default_factory=DetectorState)
    alarms: AlarmState = Field(default_factory=AlarmState)

    def to_bytes(self) -> bytes:
        """As it is stored."""
        return self.model_dump_json().encode()

    @classmethod
    def of_bytes(cls, stored: bytes) -> "SeriesMemory":
        """The inverse of `to_bytes`."""
        return cls.model_validate_json(stored)


@dataclass(frozen=True, slots=True)
class Told:
    """Something to tell of a series' anomaly."""

    kind: Literal["opened", "worsened", "ended"]
    anomaly: Anomaly


@lru_cache
def _followers(metric: str, window: WatchedWindow) -> tuple[Detector, Alarms]:
    detector = Detector(WINDOW_MS[window] / 1000, lowest=0.0, highest=HIGHEST.get(metric, inf))
    return detector, Alarms(metric)


def step(metric: str, window: WatchedWindow, memory: SeriesMemory, point: Point) -> Iterator[Told]:
    """What there is to tell after a window of a series, which is remembered in `memory`.

    An anomaly that was open when the series fell silent ended then.
    """
    detector, alarms = _followers(metric, window)
    before, seen_at = memory.alarms.open, memory.alarms.at
    if before is not None and seen_at is not None and point.at - seen_at > SILENCE_MS:
        memory.alarms.open = None
        yield Told("ended", before.model_copy(update={"ended_at": seen_at + WINDOW_MS[window]}))
    counts = {"requests": point.requests, "errors": point.errors} if metric == "errors.rate" else {}
    reading = detector.step(memory.detector, point.at, point.value)
    changes: list[Change] = alarms.step(memory.alarms, point.at, point.value, reading, **counts)
    for change in changes:
        yield Told(change.kind, change.anomaly)

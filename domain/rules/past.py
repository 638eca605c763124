"""The recorded past as windows that end at any of many moments.

The past is read once, in cells whose length divides every window and the step between moments; a window's
totals are differences of running sums, its quantiles those of a histogram that slides along.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from domain.conditions import WINDOW_MS, Window
from domain.rules.signals import AnomalyReading, Findings, Reading, TrendReading, WindowFacts
from domain.sketches import Sketch
from domain.totals import PERCENTILES, Amount, Totals

_SUMS = ("latency", "cost", "tokens_input", "tokens_output", "tokens_total", "quality")


@dataclass(frozen=True, slots=True)
class Course:
    """The moments that are looked at, and how the past is cut for them (ms).

    Cell i is [origin + i length, origin + (i + 1) length); the moments are at cells' ends, from the
    `reach`-th on and `stride` apart.
    """

    moments: range
    origin: int
    length: int
    cells: int
    reach: int
    stride: int


class Past:
    """What was reported, as windows that end at any cell's end.

    `totals` by the cell that they are of; windows that begin before `known_from` (ms) are not known.
    """

    def __init__(self, laid: Course, totals: Mapping[int, Totals], known_from: int | None) -> None:
        self._course = laid
        self._known_from = known_from
        self._running = {name: self._sum(totals, name) for name in ("n", "errors", *_SUMS)}
        self._counts = {name: self._sum(totals, name, "n") for name in _SUMS}
        self._sketches = {i: t.latency.sketch for i, t in totals.items() if t.latency.sketch is not None}
        self.facts = lru_cache(maxsize=20_000)(self._facts)
        self._percentiles: dict[Window, dict[int, NDArray[np.float64]]] = {}

    def _sum(self, totals: Mapping[int, Totals], name: str, part: str = "total") -> NDArray[np.longdouble]:
        """Running sums. In the widest floats there are, lest differences of them show it."""
        each = np.zeros(self._course.cells + 1, dtype=np.longdouble)
        for index, found in totals.items():
            value = getattr(found, name)
            each[index + 1] = getattr(value, part) if isinstance(value, Amount) else value
        return np.cumsum(each)

    def slide(self, window: Window, ends: Iterable[int]) -> None:
        """Work out the percentiles of latency of the windows that end at some cells' ends."""
        size = WINDOW_MS[window] // self._course.length
        every = sorted({int(b) for sketch in self._sketches.values() for b in sketch.bins})
        bins = np.array(every, dtype=np.int64)
        counts = np.zeros(bins.size, dtype=np.int64)
        at = {index: np.searchsorted(bins, sketch.bins) for index, sketch in self._sketches.items()}
        low = high = 0
        found = self._percentiles.setdefault(window, {})
        shares = list(PERCENTILES.values())
        for end in sorted(set(ends)):
            begin = max(0, end - size)
            for index in range(high, end):
                if index in at:
                    counts[at[index]] += self._sketches[index].counts
            for index in range(low, begin):
                if index in at:
                    counts[at[index]] -= self._sketches[index].counts
            low, high = begin, end
            present = np.flatnonzero(counts)
            if present.size:
                found[end] = Sketch(bins[present], counts[present]).quantiles(shares)

    def _facts(self, window: Window, end: int) -> WindowFacts | None:
        size = WINDOW_MS[window] // self._course.length
        begin = end - size
        starts = self._course.origin + begin * self._course.length
        if begin < 0 or self._known_from is None or starts < self._known_from:
            return None

        def between(running: NDArray[np.longdouble]) -> float:
            return float(running[end] - running[begin])

        amounts = {
            name: Amount(round(between(self._counts[name])), between(self._running[name])) for name in _SUMS
        }
        totals = Totals(
            n=round(between(self._running["n"])),
            errors=round(between(self._running["errors"])),
            latency=amounts["latency"],
            cost=amounts["cost"],
            tokens_input=amounts["tokens_input"],
            tokens_output=amounts["tokens_output"],
            tokens_total=amounts["tokens_total"],
            quality=amounts["quality"],
        )
        facts = WindowFacts.of(totals, WINDOW_MS[window] / 1000)
        quantiles = self._percentiles.get(window, {}).get(end)
        if quantiles is None:
            return facts
        told = dict(zip(PERCENTILES, quantiles.tolist(), strict=True))
        return WindowFacts({**facts.values, **told}, facts.samples)


@dataclass(frozen=True, slots=True)
class Moment:
    """The signals as of the moment at a cell's end."""

    past: Past
    end: int
    length: int
    findings: Findings

    def reading(self, metric: str, window: Window, back: int) -> Reading | None:
        facts = self.past.facts(window, self.end - back * WINDOW_MS[window] // self.length)
        return None if facts is None else facts.reading(metric)

    def trend(self, metric: str, window: Window) -> TrendReading | None:
        return self.findings.trends.get((metric, window))

    def anomaly(self, metric: str) -> AnomalyReading | None:
        known = self.findings.anomalies
        return None if known is None else AnomalyReading(known.get(metric))

"""A service's metrics beside its past: which test goes with what there is, and its trends.

The same hours of earlier days are the default. Within three days of a change of configuration the hours since
it are held against those before; under three days of history the last hours against the day before them. A
golden baseline is a comparison of its own beside these.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import sqrt

import numpy as np

from domain.analysis.autocorrelation import inflation, lag_one
from domain.analysis.changes import Change, golden, judged, pre_change, rolling, same_hour
from domain.analysis.points import Series
from domain.analysis.seasonal import DailyProfile, deseasonalised
from domain.analysis.trends import Trend, trend
from domain.analysis.windows import Missing
from domain.analytics import DAY_MS, HOUR_MS, MINUTE_MS
from domain.base import Message
from domain.conditions import TREND_WINDOWS, WINDOW_MS, Window
from domain.metrics import WATCHED

HISTORY_MS = 15 * DAY_MS
"""How much of the past is looked at."""
SPAN_HOURS = 3
"""The clock span that one day is held against another by."""
DAYS = 14
MIN_DAYS = 3
CHANGE_MS = 3 * DAY_MS
"""For so long after a change of configuration one asks what it did."""
BEFORE_MS = 7 * DAY_MS
ROLLING_HOURS = 6
TREND_STEP_MS: dict[Window, int] = dict(zip(TREND_WINDOWS, (MINUTE_MS, 15 * MINUTE_MS, HOUR_MS), strict=True))
"""How long one point of a trend over a window is."""
LEAST_REFERENCE_HOURS = 3


class Reference(Message):
    """A metric of the hours of a golden stretch: their mean, its standard error and how many there were."""

    mean: float
    error: float
    hours: int


class WindowTrend(Message):
    """A trend over a window; `deseasonalised` when the daily cycle was taken off."""

    window: Window
    deseasonalised: bool
    trend: Trend


def reference(series: Series) -> Reference | None:
    """What a golden baseline remembers of a metric's hours; None under three of them.

    The error is that of the mean of as many independent hours as these are worth.
    """
    n = len(series)
    if n < LEAST_REFERENCE_HOURS:
        return None
    residuals = series.values - series.values.mean()
    rho = min(max(lag_one([(residuals, series.adjacent)]), 0.0), 0.97)
    spread = float(series.values.std(ddof=1))
    error = spread * sqrt(inflation(n, rho) / n)
    return Reference(mean=float(series.values.mean()), error=error, hours=n)


@dataclass(frozen=True)
class Past:
    """A service's metrics by hour up to `until` (ms), the end of the last complete hour.

    The times of all series are the middles of their windows. `changed_at` is when what it serves began to be
    served, `golden` what its golden baseline was.
    """

    until: int
    hourly: Mapping[str, Series]
    changed_at: int | None = None
    golden: Mapping[str, Reference] = field(default_factory=dict)

    @cached_property
    def profiles(self) -> dict[str, DailyProfile]:
        """The daily cycle of each metric."""
        return {metric: DailyProfile.of(series) for metric, series in self.hourly.items()}


@dataclass(frozen=True, slots=True)
class Comparison:
    """The changes that could be tested, and the metrics for which none could be, with the reason."""

    changes: list[Change]
    untested: list[Missing]


def compare(past: Past) -> Comparison:
    """Each watched metric against its baseline, judged together; and so against the golden one, if any."""
    tested: list[Change] = []
    against_golden: list[Change] = []
    untested = []
    for metric in WATCHED:
        series = past.hourly.get(metric)
        if series is None or not len(series) or series.times[-1] < past.until - SPAN_HOURS * HOUR_MS:
            untested.append(_missing(metric, f"no hour of the last {SPAN_HOURS} has enough"))
            continue
        change = next((found for test in _tests(past) if (found := test(metric, series, past))), None)
        if change is None:
            untested.append(_missing(metric, "too few hours or days to compare with"))
        else:
            tested.append(change)
        kept = past.golden.get(metric)
        if kept is not None:
            day = _between(series, past.until - DAY_MS, past.until)
            profile = past.profiles[metric]
            day = deseasonalised(day, profile) if _is_known(profile) else day
            found = golden(metric, day, kept.mean, kept.error, kept.hours)
            against_golden += [] if found is None else [found]
    changes = [*_judged(tested), *_judged(against_golden)]
    return Comparison(changes, untested)


def _judged(changes: list[Change]) -> list[Change]:
    return judged(changes) if changes else []


Test = Callable[[str, Series, Past], Change | None]


def _tests(past: Past) -> Iterator[Test]:
    """Those that go with what there is, the best first."""
    if past.changed_at is not None and past.until - past.changed_at <= CHANGE_MS:
        yield _pre_change
    yield _same_hour
    yield _rolling


def _pre_change(metric: str, series: Series, past: Past) -> Change | None:
    changed_at = past.changed_at or past.until
    # The hour of the change belongs to neither side.
    end = changed_at - HOUR_MS // 2 + 1
    after = _between(series, changed_at + HOUR_MS // 2, past.until)
    profile = DailyProfile.of(_between(series, past.until - HISTORY_MS, end))
    before = _between(series, changed_at - BEFORE_MS, end)
    return pre_change(metric, before, after, profile if _is_known(profile) else None)


def _same_hour(metric: str, series: Series, past: Past) -> Change | None:
    now = _span(series, past.until)
    spans = [_span(series, past.until - ago * DAY_MS) for ago in range(DAYS, 0, -1)]
    days = [day for day in spans if day is not None]
    return None if now is None else same_hour(metric, now, days)


def _rolling(metric: str, series: Series, past: Past) -> Change | None:
    if past.until - series.times[0] >= MIN_DAYS * DAY_MS:
        return None
    middle = past.until - ROLLING_HOURS * HOUR_MS
    before = _between(series, middle - DAY_MS, middle)
    return rolling(metric, before, _between(series, middle, past.until))


def _is_known(profile: DailyProfile) -> bool:
    return bool(np.isfinite(profile.offsets).all())


def _span(series: Series, until: int) -> float | None:
    """The average of the clock span that ends then; None where most of its hours lack the metric."""
    found = _between(series, until - SPAN_HOURS * HOUR_MS, until)
    return float(found.values.mean()) if 2 * len(found) > SPAN_HOURS else None


def _between(series: Series, since: int, until: int) -> Series:
    held = (series.times >= since) & (series.times < until)
    return Series(series.times[held], series.values[held])


def _missing(metric: str, reason: str) -> Missing:
    return Missing.model_validate({"metric": metric, "reason": reason})


def trends(past: Past, windows: Mapping[Window, Mapping[str, Series]], now: int) -> list[WindowTrend]:
    """The trends of a service's windows that end at `now` (ms), given each window's points by metric.

    A window of which less than half has points has none. The daily cycle is taken off, where it is known; a
    day or a week of which it is not has no trend, for a cycle would pass for one. An hour may have one.
    """
    found = []
    for window, by_metric in windows.items():
        for metric in WATCHED:
            series = by_metric.get(metric)
            if series is None or not _covers(series, window, now):
                continue
            level = deseasonalised(series, past.profiles[metric]) if metric in past.profiles else None
            known = level is not None and len(level) >= 0.8 * len(series)
            if not known and window != "1h":
                continue
            used = level if known and level is not None else series
            told = trend(metric, used.times.tolist(), used.values.tolist())
            if told is not None:
                found.append(WindowTrend(window=window, deseasonalised=known, trend=told))
    return found


def _covers(series: Series, window: Window, now: int) -> bool:
    """Whether the points span half of the window, and reach into its last quarter."""
    if len(series) < 2:
        return False
    length, first, last = WINDOW_MS[window], int(series.times[0]), int(series.times[-1])
    return last - first >= length / 2 and last >= now - length / 4

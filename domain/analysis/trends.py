"""Whether a metric goes up or down, how fast, and where it would be.

Theil-Sen's slope, and Mann-Kendall's test with its variance inflated for AR(1) noise, as Hamed & Rao (1998)
inflate it, but by the form that the inflation has under AR(1) rather than by noisy single autocorrelations.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import isfinite, log, sqrt
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from domain.analysis.autocorrelation import lag_one
from domain.analysis.points import ROUNDING, Series, is_constant
from domain.analytics import HOUR_MS
from domain.base import Message
from domain.metrics import HIGHEST, METRICS

ALPHA = 0.05
MIN_POINTS = 10
MAX_POINTS = 120
HIGHEST_RHO = 0.95
FORECAST_POINTS = 8
FORECAST_PART = 0.25


class ForecastPoint(Message):
    """What to expect at a time (ms), and the 95 % interval of a window's value then."""

    at: int
    mean: float
    low: float
    high: float


class Trend(Message):
    """The line through a metric's window.

    `direction` is `none` unless the trend is significant (two-sided p < .05 and a slope that is not 0).
    `change` is the line's rise over the window as a fraction of its level at the start, None where that is 0.
    `n` counts the points, `effective_n` what they are worth as independent ones. The forecast goes a quarter
    of the window beyond its end.
    """

    metric: str
    direction: Literal["up", "down", "none"]
    slope_per_hour: float
    change: float | None = None
    p: float
    significant: bool
    n: int
    effective_n: float
    forecast: list[ForecastPoint]


def trend(
    metric: str, times: Sequence[int] | NDArray[np.int64], values: Sequence[float] | NDArray[np.float64]
) -> Trend | None:
    """The trend of a metric whose daily cycle was taken off (`deseasonalised`); times in ms, in any order.

    Unusable values are left out (`Series.of`); more than 120 points are averaged to at most 120. rho comes
    from the residuals of Theil-Sen's line, corrected for bias, (n r + 2)/(n - 4), and clipped to 0 .. .95;
    the variance of S, corrected for ties, is multiplied by sum t_i t_j rho^|i-j| / sum t_i^2; z, corrected
    for continuity, is held against t with n/inflation - 2 degrees of freedom, 1 at least. Gaps count by their
    length. None under ten points.

    Raises:
        ValueError: not as many times as values.
    """
    series = Series.of(times, values).thinned(MAX_POINTS)
    n = len(series)
    if n < MIN_POINTS:
        return None
    hours = (series.times - series.times[0]) / HOUR_MS
    if is_constant(series.values):
        line = _Line(0.0, float(np.median(series.values)), 0.0, 1.0, 1.0, hours)
        return _told(metric, series, line, 1.0)
    first, second = _pairs(n)
    rises, apart = series.values[second] - series.values[first], hours[second] - hours[first]
    line = _Line.through(series, hours, float(np.median(rises / apart)), apart)
    score = np.count_nonzero(rises > 0) - np.count_nonzero(rises < 0)
    z = (score - np.sign(score)) / sqrt(score_variance(series.values) * line.inflation)
    return _told(metric, series, line, min(1.0, 2 * float(stdtr(line.df, -abs(z)))))


def score_variance(values: NDArray[np.float64]) -> float:
    """The variance of Mann-Kendall's S for independent values, corrected for ties (Kendall 1975)."""
    ties = np.unique(values, return_counts=True)[1].astype(float)
    n = values.size
    return (n * (n - 1) * (2 * n + 5) - float((ties * (ties - 1) * (2 * ties + 5)).sum())) / 18


class _Line(NamedTuple):
    """Slope per hour, level at the first point, variance around the line; inflations of slope and mean."""

    slope: float
    level: float
    variance: float
    inflation: float
    mean_inflation: float
    hours: NDArray[np.float64]

    @classmethod
    def through(
        cls, series: Series, hours: NDArray[np.float64], slope: float, apart: NDArray[np.float64]
    ) -> "_Line":
        """With this slope through the median; `apart` are the hours between every two points (`_pairs`)."""
        n = len(series)
        around = series.values - slope * hours
        level = float(np.median(around))
        centred = around - around.mean()
        r = lag_one([(centred, series.adjacent)]) * (n - 1) / n
        rho = min(max((n * r + 2) / (n - 4), 0.0), HIGHEST_RHO)
        inflation = mean_inflation = 1.0
        if rho > 0:
            shared = np.exp(apart * (log(rho) * HOUR_MS / series.step))
            first, second = _pairs(n)
            t = hours - hours.mean()
            inflation += 2 * float((t[first] * t[second]) @ shared) / float(t @ t)
            mean_inflation += 2 * float(shared.sum()) / n
        # A line fitted to autocorrelated noise follows it, so that the residuals understate its variance.
        variance = float(centred @ centred) / max(n - inflation - mean_inflation, 1.0)
        return cls(slope, level, variance, inflation, mean_inflation, hours)

    @property
    def df(self) -> float:
        return max(self.hours.size / self.inflation - 2, 1.0)

    def at(self, hours: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The line so many hours after the first point, and half the width of the prediction interval."""
        t = self.hours - self.hours.mean()
        away = np.square(hours - self.hours.mean()) / float(t @ t)
        variance = self.variance * (1 + self.mean_inflation / t.size + self.inflation * away)
        return self.level + self.slope * hours, float(stdtrit(self.df, 1 - ALPHA / 2)) * np.sqrt(variance)


@lru_cache(maxsize=256)
def _pairs(n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The indices of every two points, the earlier first."""
    first, second = np.triu_indices(n, 1)
    return first, second


def _told(metric: str, series: Series, line: _Line, p: float) -> Trend:
    span = float(line.hours[-1])
    significant = p < ALPHA and line.slope != 0
    change = None
    if abs(line.level) > ROUNDING * float(np.abs(series.values).max()):
        change = line.slope * span / abs(line.level)
        change = change if isfinite(change) else None
    return Trend(
        metric=metric,
        direction="none" if not significant else "up" if line.slope > 0 else "down",
        slope_per_hour=line.slope,
        change=change,
        p=p,
        significant=significant,
        n=len(series),
        effective_n=len(series) / line.inflation,
        forecast=_forecast(metric, int(series.times[0]), line),
    )


def _forecast(metric: str, start: int, line: _Line) -> list[ForecastPoint]:
    """Kept to what the metric can be, where it is one of the known."""
    span = line.hours[-1]
    hours = span * (1 + FORECAST_PART * np.arange(1, FORECAST_POINTS + 1) / FORECAST_POINTS)
    mean, reach = line.at(hours)
    least, most = (0.0, HIGHEST.get(metric, np.inf)) if metric in METRICS else (-np.inf, np.inf)
    means, lows, highs = (np.clip(x, least, most).tolist() for x in (mean, mean - reach, mean + reach))
    at = (start + hours * HOUR_MS).astype(np.int64).tolist()
    return [
        ForecastPoint(at=when, mean=m, low=low, high=high)
        for when, m, low, high in zip(at, means, lows, highs, strict=True)
    ]

"""The daily cycle: what the same hours of earlier days say of an hour, and series without it."""

from dataclasses import dataclass
from math import pi
from typing import Self

import numpy as np
from numpy.typing import NDArray

from domain.analysis.points import Series
from domain.analytics import DAY_MS, HOUR_MS

DAYS = 14
MIN_DAYS = 2
HOURS = 24
# Of the 24 hours around an hour, so many must have values for their average to be the level there.
MIN_AROUND = 20
_AROUND_THE_CLOCK = np.arange(-1, HOURS + 1)
_AROUND = np.array([0.5, *[1.0] * 23, 0.5])


@dataclass(frozen=True, slots=True)
class DailyProfile:
    """By how much each hour of the day (UTC) differs from the day's level; NaN where that is not known.

    `variances` are those of the offsets, which are themselves estimates, of a few days only at first.
    """

    offsets: NDArray[np.float64]
    variances: NDArray[np.float64]

    @classmethod
    def of(cls, history: Series) -> Self:
        """The same-hour prediction of the last 14 days of a history.

        Median over the days of the hour's median less the average of the 24 h around it, which keeps a trend
        out of the profile (classical decomposition); an hour needs two days at least, and so the history
        three. Times in ms; points may be minutes or hours.
        """
        if len(history) == 0:
            return cls._of_days(np.full((1, HOURS), np.nan))
        recent = history.times > history.times[-1] - DAYS * DAY_MS
        hours = history.times[recent] // HOUR_MS
        first = int(hours[0])
        medians = _by_hour(hours - first, history.values[recent])
        before = first % HOURS
        days = np.full((before + medians.size + HOURS - 1) // HOURS * HOURS, np.nan)
        days[before : before + medians.size] = medians - _around(medians)
        return cls._of_days(days.reshape(-1, HOURS))

    @classmethod
    def _of_days(cls, differences: NDArray[np.float64]) -> Self:
        """From hours' differences to their day, (days, 24); the days' spread is pooled over the hours."""
        counts = np.isfinite(differences).sum(axis=0)
        known = counts >= MIN_DAYS
        offsets, variances = np.full(HOURS, np.nan), np.full(HOURS, np.nan)
        if known.any():
            held = differences[:, known]
            medians = np.nanmedian(held, axis=0)
            squares = float(np.nansum(np.square(held - np.nanmean(held, axis=0))))
            spread = squares / float((counts[known] - 1).sum())
            offsets[known] = medians - medians.mean()
            # A median of many varies more than their mean by pi/2; of two it is their mean.
            variances[known] = spread * np.where(counts[known] > 2, pi / 2, 1.0) / counts[known]
        return cls(offsets, variances)

    def at(self, times: NDArray[np.int64]) -> NDArray[np.float64]:
        """The offset at each time (ms), on straight lines between the middles of the hours."""
        of_day = (times % DAY_MS) / HOUR_MS - 0.5
        return np.interp(of_day, _AROUND_THE_CLOCK, self.offsets[_AROUND_THE_CLOCK % HOURS])

    def variance_between(self, one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
        """What the profile's own error adds to the variance of the difference of two means, by their times.

        Nothing where both cover the same hours of the day alike.
        """
        shares = [np.bincount(t // HOUR_MS % HOURS, minlength=HOURS) / t.size for t in (one, other)]
        return float(np.square(shares[0] - shares[1]) @ np.nan_to_num(self.variances))


def deseasonalised(series: Series, profile: DailyProfile) -> Series:
    """The series less its daily profile, the level kept; without the points whose hour the profile lacks."""
    values = series.values - profile.at(series.times)
    known = np.isfinite(values)
    return Series(series.times, values) if known.all() else Series(series.times[known], values[known])


def _by_hour(hours: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Medians of the hours from 0 to the last; NaN where there is no value."""
    order = np.lexsort((values, hours))
    ranked = values[order]
    counts = np.bincount(hours)
    ends = np.cumsum(counts)
    starts = ends - counts
    low, high = np.maximum(starts + (counts - 1) // 2, 0), starts + counts // 2
    last = ranked.size - 1
    medians = (ranked[np.minimum(low, last)] + ranked[np.minimum(high, last)]) / 2
    return np.where(counts > 0, medians, np.nan)


def _around(hourly: NDArray[np.float64]) -> NDArray[np.float64]:
    """The average of the 24 h around each hour; NaN where they are not over yet or too few have values."""
    level = np.full(hourly.size, np.nan)
    if hourly.size < _AROUND.size:
        return level
    known = np.isfinite(hourly)
    sums = np.convolve(np.where(known, hourly, 0.0), _AROUND, mode="valid")
    weights = np.convolve(known.astype(float), _AROUND, mode="valid")
    inner = level[_AROUND.size // 2 : -(_AROUND.size // 2)]
    enough = weights >= MIN_AROUND
    inner[enough] = sums[enough] / weights[enough]
    return level

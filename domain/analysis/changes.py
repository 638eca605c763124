"""Whether a metric differs from its baseline, where windows are autocorrelated and have a daily cycle.

A plain t or rank test takes windows as independent and finds changes where there are none. Here a day's same
hours are one value (`same_hour`, the default), or the sizes of the samples are cut to what they are worth
(`pre_change`, `rolling`, `golden`).
"""

from collections.abc import Sequence
from math import inf, isfinite, sqrt
from typing import Literal, NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit

from domain.analysis.autocorrelation import inflation, lag_one
from domain.analysis.points import LARGEST, ROUNDING, Series, is_constant
from domain.analysis.seasonal import DailyProfile, deseasonalised
from domain.analytics import DAY_MS
from domain.base import Message

ALPHA = 0.05
SMALLEST_CHANGE = 0.05
MIN_DAYS = 3
MAX_DAYS = 14
MIN_POINTS = 6
MIN_EFFECTIVE = 2.0
HIGHEST_RHO = 0.97

Method = Literal["same-hour", "pre-change", "rolling", "golden"]


class Change(Message):
    """A metric now beside its baseline.

    `before` is what the baseline expects of the present hours. `change` is (now - before) / |before|, None
    where before is 0. `low` and `high` are the 95 % interval of now - before; None where there is no variance
    to take one from. `p` is two-sided. `significant` goes by `adjusted_p`, by `p` while there is none, and by
    the size of the change. `n` counts the values on the baseline's side: days, windows, or what golden was
    measured on; `effective_n` is what the smaller side is worth in independent windows, None for same-hour,
    whose days are independent.
    """

    metric: str
    method: Method
    before: float
    now: float
    change: float | None = None
    low: float | None = None
    high: float | None = None
    p: float
    adjusted_p: float | None = None
    significant: bool
    n: int
    effective_n: float | None = None


def same_hour(metric: str, now: float, days: Sequence[float]) -> Change | None:
    """The present clock span's average against that of the same span on earlier days, the oldest first.

    t = (now - mean) / (s sqrt(1 + 1/D)) with D - 1 degrees of freedom, that is, whether `now` is within the
    days' prediction interval; the last 14 days count. Where all days are equal and `now` is not, p = 1/(D+1):
    the chance that of D + 1 exchangeable days the odd one is today. None under three days with a value, or if
    `now` is none.
    """
    known = np.asarray(days, dtype=np.float64)
    known = known[np.abs(known) <= LARGEST][-MAX_DAYS:]
    n = known.size
    if n < MIN_DAYS or not abs(now) <= LARGEST:
        return None
    mean = float(known.mean())
    told = _Told(metric, "same-hour", mean, float(now), n, None)
    if is_constant(known):
        return told.of_constants(1 / (n + 1))
    return told.of_t(float(known.std(ddof=1)) * sqrt(1 + 1 / n), n - 1)


def pre_change(
    metric: str, before: Series, after: Series, profile: DailyProfile | None = None
) -> Change | None:
    """The windows since a change of configuration against those before it.

    Both sides are taken less the same daily profile, learned from what was before the change, then compared
    by Welch's test on effective sample sizes: n / (1 + 2 sum (1 - j/n) rho^j), rho pooled within the sides
    and corrected for bias, variances for what autocorrelation hides of them. The profile's own error is
    added where the sides cover other hours. Without a profile (the sides cover the same hours, or no cycle is
    known) they are taken as they are. Where each side is constant and they differ, p = 1/(n - 1): the chance
    that the one jump of all n values is where the sides meet. None with fewer than six windows on a side, or
    if a side is worth fewer than two independent ones.
    """
    if profile is None:
        base, present = before, after
    else:
        base, present = deseasonalised(before, profile), deseasonalised(after, profile)
    if min(len(base), len(present)) < MIN_POINTS:
        return None
    sides = _sides(base, present)
    if sides is None:
        return None
    first, second = sides
    now = float(after.values.mean())
    effective = min(first.effective, second.effective)
    told = _Told(metric, "pre-change", now - (second.mean - first.mean), now, first.n, effective)
    variance = first.variance + second.variance
    if variance == 0:
        return told.of_constants(1 / (first.n + second.n - 1))
    error = sqrt(variance + (profile.variance_between(base.times, present.times) if profile else 0.0))
    # By shares of the variance, whose own square may be too small for a number.
    df = 1 / sum((side.variance / variance) ** 2 / (side.effective - 1) for side in sides)
    return told.of_t(error, df)


def rolling(metric: str, before: Series, after: Series) -> Change | None:
    """The present windows against the last day's: for series of under three days, of which no cycle is known.

    Each window less the one 24 h earlier, so that a daily cycle does not pass for a change, and the mean of
    these differences against 0 on their effective sample size, as in `pre_change`. None, besides what is None
    there, where fewer than six windows have one 24 h earlier, as in a series' first day.
    """
    if min(len(before), len(after)) < MIN_POINTS:
        return None
    half = after.step // 2
    wanted = after.times - DAY_MS
    place = np.minimum(np.searchsorted(before.times, wanted - half), len(before) - 1)
    paired = np.abs(before.times[place] - wanted) <= half
    earlier, present = before.values[place[paired]], after.values[paired]
    if present.size < MIN_POINTS:
        return None
    sides = _sides(Series(after.times[paired], present - earlier))
    if sides is None:
        return None
    (side,) = sides
    now = float(present.mean())
    told = _Told(metric, "rolling", now - side.mean, now, side.n, side.effective)
    if side.variance == 0:
        return told.of_constants(1 / side.n)
    return told.of_t(sqrt(side.variance), side.effective - 1)


def golden(metric: str, now: Series, reference: float, error: float, samples: int) -> Change | None:
    """The present windows against a fixed value with its standard error, measured once on so many `samples`.

    The reference's error counts as known, that of the present as in `pre_change`; the present is taken as
    given, so whoever wants it without its daily cycle gives it so. None with fewer than six windows, or if
    they are worth fewer than two independent ones, or a reference or error that is no such thing.
    """
    if len(now) < MIN_POINTS or not abs(reference) <= LARGEST or not 0 <= error <= LARGEST:
        return None
    sides = _sides(now)
    if sides is None:
        return None
    (present,) = sides
    told = _Told(metric, "golden", float(reference), present.mean, samples, present.effective)
    variance = present.variance + error * error
    if variance <= (ROUNDING * max(abs(present.mean), abs(reference))) ** 2:
        return told.of_constants(1 / present.n)
    df = (present.effective - 1) * (variance / present.variance) ** 2 if present.variance else inf
    return told.of_t(sqrt(variance), df)


def judged(changes: Sequence[Change]) -> list[Change]:
    """The same changes, each judged as one of several (Benjamini & Hochberg 1995).

    The family is what is given: the metrics of one service at one time. Significant is an adjusted p below
    .05 and a change of 5 % or more (from 0, any).
    """
    p = np.array([change.p for change in changes])
    order = np.argsort(p)[::-1]
    stepped = p[order] * p.size / np.arange(p.size, 0, -1)
    adjusted = np.empty(p.size)
    adjusted[order] = np.minimum(np.minimum.accumulate(stepped), 1.0)
    return [
        change.model_copy(update={"adjusted_p": q, "significant": _matters(q, change.change)})
        for change, q in zip(changes, adjusted.tolist(), strict=True)
    ]


def _matters(p: float, change: float | None) -> bool:
    return p < ALPHA and (change is None or abs(change) >= SMALLEST_CHANGE)


class _Told(NamedTuple):
    """A comparison but for its test."""

    metric: str
    method: Method
    before: float
    now: float
    n: int
    effective_n: float | None

    def of_t(self, error: float, df: float) -> Change:
        """By the difference's standard error and degrees of freedom."""
        difference = self.now - self.before
        reach = float(stdtrit(df, 1 - ALPHA / 2)) * error
        return self._change(2 * float(stdtr(df, -abs(difference) / error)), difference, reach)

    def of_constants(self, p: float) -> Change:
        """Where nothing varies: `p` if there is a difference, else 1 and an interval of no width."""
        difference = self.now - self.before
        if abs(difference) <= ROUNDING * max(abs(self.now), abs(self.before)):
            return self._change(1.0, difference, 0.0)
        return self._change(p, difference, inf)

    def _change(self, p: float, difference: float, reach: float) -> Change:
        change = difference / abs(self.before) if self.before else None
        if change is not None and not isfinite(change):
            change = None
        bounded = isfinite(reach)
        return Change(
            metric=self.metric,
            method=self.method,
            before=self.before,
            now=self.now,
            change=change,
            low=difference - reach if bounded else None,
            high=difference + reach if bounded else None,
            p=p,
            significant=_matters(p, change),
            n=self.n,
            effective_n=self.effective_n,
        )


class _Side(NamedTuple):
    """One side's mean, the variance of that mean, its windows and what they are worth."""

    mean: float
    variance: float
    n: int
    effective: float

    @classmethod
    def of(cls, mean: float, squares: float, n: int, rho: float) -> "_Side":
        """From the values' mean and the sum of their squared deviations from it."""
        times = inflation(n, rho)
        # The sample variance, squares / (n - 1), misses what the whole stretch has in common.
        return cls(mean, squares / (n - times) * times / n, n, n / times)


def _sides(*series: Series) -> list[_Side] | None:
    """Each side by the autocorrelation that they share; None if one is worth too little."""
    means = [float(side.values.mean()) for side in series]
    residuals = [
        np.zeros(len(side)) if is_constant(side.values) else side.values - mean
        for side, mean in zip(series, means, strict=True)
    ]
    r = lag_one([(left, side.adjacent) for left, side in zip(residuals, series, strict=True)])
    # Each mean that was taken off costs (1 + 3 rho)/n of its own side (Kendall 1954).
    n = sum(len(side) for side in series) / len(series)
    varies = any(left.any() for left in residuals)
    rho = min(max(r + (1 + 3 * r) / n, 0.0), HIGHEST_RHO) if varies else 0.0
    sides = [
        _Side.of(mean, float(left @ left), left.size, rho)
        for mean, left in zip(means, residuals, strict=True)
    ]
    return None if min(side.effective for side in sides) < MIN_EFFECTIVE else sides

"""Tests of change against scipy's, closed forms, and what they must not be fooled by."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.signal import lfilter

from domain.analysis.autocorrelation import inflation
from domain.analysis.changes import Change, golden, judged, pre_change, rolling, same_hour
from domain.analysis.points import Series
from domain.analysis.seasonal import DailyProfile
from domain.analytics import DAY_MS

START = 20_000 * DAY_MS
STEP = 300_000
DAY = DAY_MS // STEP


def _series(values: np.ndarray, first: int = 0) -> Series:
    return Series.of(START + STEP * np.arange(first, first + values.size), values)


def _unlike(rng: np.random.Generator, n: int) -> np.ndarray:
    """Noise whose neighbours differ, so that no autocorrelation is found."""
    return np.abs(rng.standard_normal(n)) * np.where(np.arange(n) % 2, 1.0, -1.0)


def _told(change: Change | None) -> Change:
    assert change is not None
    return change


@pytest.mark.parametrize("d", [3, 7, 14])
def test_same_hour_is_the_prediction_interval(d: int) -> None:
    days = np.random.default_rng(d).normal(400, 20, d)
    found = _told(same_hour("latency.avg", 460.0, days.tolist()))
    reach = stats.t.ppf(0.975, d - 1) * days.std(ddof=1) * math.sqrt(1 + 1 / d)
    assert (found.low, found.high) == pytest.approx((460 - days.mean() - reach, 460 - days.mean() + reach))
    # One value beside D with their own variance: scipy's pooled t-test on means, variances and sizes.
    pooled = stats.ttest_ind_from_stats(days.mean(), days.std(ddof=1), d, 460.0, 0.0, 1)
    assert found.p == pytest.approx(pooled.pvalue)
    assert found.before == pytest.approx(days.mean())
    assert (found.now, found.n, found.effective_n) == (460, d, None)
    assert found.change == pytest.approx(460 / days.mean() - 1)


def test_same_hour_goes_by_the_last_14_days_that_have_values() -> None:
    days = [1e6, 1e5, *np.random.default_rng(1).normal(5, 1, 13).tolist(), math.nan, 5.0]
    assert same_hour("cost.avg", 5.0, days) == same_hour("cost.avg", 5.0, [*days[2:15], 5.0])


@pytest.mark.parametrize(
    ("now", "days"),
    [(1.0, []), (1.0, [1, 2]), (1.0, [1, 2, math.nan]), (math.nan, [1, 2, 3]), (math.inf, [1, 2, 3])],
)
def test_same_hour_cannot_be_told_of_little(now: float, days: list[float]) -> None:
    assert same_hour("cost.avg", now, days) is None


def test_days_that_are_all_equal_leave_a_rank_only() -> None:
    assert _told(same_hour("cost.avg", 0.1 + 0.2, [0.3] * 7)).p == 1
    other = _told(same_hour("cost.avg", 0.6, [0.3] * 7))
    assert (other.p, other.low, other.high, other.significant) == (1 / 8, None, None, False)
    none = _told(same_hour("errors.rate", 0.01, [0.0] * 14))
    assert (none.p, none.change, none.significant) == (1 / 15, None, False)


def test_welch_on_independent_windows_is_scipys() -> None:
    rng = np.random.default_rng(2)
    before, after = 100 + 8 * _unlike(rng, 80), 104 + 3 * _unlike(rng, 30)
    found = _told(pre_change("latency.p95", _series(before), _series(after, 80)))
    expected = stats.ttest_ind(after, before, equal_var=False)
    interval = expected.confidence_interval(0.95)
    assert found.effective_n == 30
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert (found.before, found.now) == pytest.approx((before.mean(), after.mean()))
    assert found.significant is bool(expected.pvalue < 0.05 and after.mean() / before.mean() >= 1.05)


def test_welch_on_effective_sizes_follows_the_formulas() -> None:
    rng = np.random.default_rng(3)
    n = 200
    one, other = (lfilter([1], [1, -0.6], rng.standard_normal(n)) + level for level in (50, 53))
    residuals = [one - one.mean(), other - other.mean()]
    products = sum(float(r[:-1] @ r[1:]) for r in residuals) / (2 * n - 2)
    r = products / (sum(float(x @ x) for x in residuals) / (2 * n))
    rho = r + (1 + 3 * r) / n
    assert rho == pytest.approx(0.6, abs=0.1)
    size = n / inflation(n, rho)
    spreads = [x.std(ddof=1) * math.sqrt((n - 1) / (n - n / size)) for x in (one, other)]
    expected = stats.ttest_ind_from_stats(
        other.mean(), spreads[1], size, one.mean(), spreads[0], size, equal_var=False
    )
    found = _told(pre_change("latency.avg", _series(one), _series(other, n)))
    assert found.effective_n == pytest.approx(size)
    assert found.p == pytest.approx(expected.pvalue)


def test_golden_with_a_sure_reference_is_the_one_sample_t() -> None:
    after = 80 + _unlike(np.random.default_rng(4), 40)
    found = _told(golden("quality.avg", _series(after), 79.5, 0.0, 900))
    expected = stats.ttest_1samp(after, 79.5)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.n, found.effective_n, found.before) == (900, 40, 79.5)


def test_golden_with_an_unsure_reference_is_the_normal_test() -> None:
    after = 80 + 1e-3 * _unlike(np.random.default_rng(5), 40)
    found = _told(golden("quality.avg", _series(after), 78.0, 1.0, 30))
    assert found.p == pytest.approx(2 * stats.norm.sf(after.mean() - 78), rel=1e-3)
    constant = _told(golden("quality.avg", _series(np.full(40, 80.0)), 78.0, 1.0, 30))
    assert constant.p == pytest.approx(2 * stats.norm.sf(2))


def test_golden_needs_a_reference() -> None:
    after = _series(np.random.default_rng(6).normal(0, 1, 40))
    for reference, error in ((math.nan, 1.0), (math.inf, 1.0), (1.0, -1.0), (1.0, math.nan)):
        assert golden("cost.avg", after, reference, error, 10) is None


def test_the_profile_takes_the_cycle_off_and_the_level_stays() -> None:
    rng = np.random.default_rng(7)
    times = START + STEP * np.arange(14 * DAY)
    values = 500 + 100 * np.sin(2 * np.pi * (times % DAY_MS) / DAY_MS) + 10 * rng.standard_normal(times.size)
    history = Series.of(times[:-72], values[:-72])
    before, after = Series.of(times[-360:-72], values[-360:-72]), Series.of(times[-72:], values[-72:] + 50)
    found = _told(pre_change("latency.avg", before, after, DailyProfile.of(history)))
    assert found.now == pytest.approx(float(after.values.mean()))
    assert found.now - found.before == pytest.approx(50, abs=5)
    assert found.significant
    # As they are, the evening is below the day whatever was changed.
    assert found.now < float(before.values.mean())


def test_an_unknown_profile_tells_nothing() -> None:
    noise = np.random.default_rng(8).normal(5, 1, 60)
    assert pre_change("cost.avg", _series(noise), _series(noise, 60), DailyProfile.of(_series(noise))) is None


def test_rolling_is_the_paired_t_with_the_day_before() -> None:
    cycle = 500 + 100 * np.sin(2 * np.pi * np.arange(DAY + 36) / DAY)
    yesterday, today = cycle[:36], cycle[DAY:] + 2 * _unlike(np.random.default_rng(9), 36) + 1
    found = _told(rolling("latency.avg", _series(cycle[:DAY]), _series(today, DAY)))
    assert found.p == pytest.approx(stats.ttest_rel(today, yesterday).pvalue)
    assert (found.method, found.n, found.effective_n) == ("rolling", 36, 36)
    assert (found.before, found.now) == pytest.approx((yesterday.mean(), today.mean()))


def test_rolling_takes_windows_that_have_one_the_day_before() -> None:
    rng = np.random.default_rng(15)
    before, after = _series(rng.normal(9, 1, 30)), _series(rng.normal(9, 1, 60), DAY)
    assert _told(rolling("cost.avg", before, after)).n == 30
    assert rolling("cost.avg", _series(before.values[:5]), after) is None
    assert rolling("cost.avg", _series(before.values, 60), after) is None
    assert rolling("cost.avg", before, _series(np.array([]))) is None
    # Off yesterday's grid by a third of a window, and in a gap of it.
    assert _told(rolling("cost.avg", before, Series.of(after.times + STEP // 3, after.values))).n == 30
    apart = Series.of(START + 4 * STEP * np.arange(8), before.values[:8])
    assert _told(rolling("cost.avg", apart, after)).n == 8


def test_constant_sides_are_told_apart_by_how_long_they_lasted() -> None:
    def change(n: int, now: float) -> Change:
        return _told(pre_change("cost.avg", _series(np.full(n, 0.01)), _series(np.full(n, now), n)))

    same = change(60, 0.01)
    assert (same.p, same.low, same.high, same.change, same.significant) == (1, 0, 0, 0, False)
    long = change(60, 0.013)
    assert (long.p, long.low, long.significant) == (1 / 119, None, True)
    assert not change(6, 0.013).significant
    fixed = _told(golden("cost.avg", _series(np.full(60, 0.013)), 0.01, 0.0, 5))
    assert (fixed.p, fixed.significant) == (1 / 60, True)


def test_from_zero_any_significant_change_counts() -> None:
    after = 0.05 + 0.01 * _unlike(np.random.default_rng(10), 60)
    found = _told(pre_change("errors.rate", _series(np.zeros(60)), _series(after, 60)))
    assert (found.change, found.significant) == (None, True)


def test_too_few_windows_or_too_alike_are_not_told() -> None:
    rng = np.random.default_rng(11)
    assert pre_change("cost.avg", _series(rng.normal(0, 1, 5)), _series(rng.normal(0, 1, 50), 5)) is None
    assert pre_change("cost.avg", _series(np.array([])), _series(rng.normal(0, 1, 50))) is None
    climb = np.arange(30) + 0.01 * rng.standard_normal(30)
    assert pre_change("cost.avg", _series(climb), _series(climb + 9, 30)) is None
    assert rolling("cost.avg", _series(np.zeros(30)), _series(climb, DAY)) is None
    assert golden("cost.avg", _series(climb), 0.0, 1.0, 9) is None


def _change(p: float, change: float | None = 0.2) -> Change:
    return Change(
        metric="cost.avg",
        method="same-hour",
        before=1.0,
        now=2.0,
        change=change,
        low=None,
        high=None,
        p=p,
        n=9,
        effective_n=None,
        significant=p < 0.05,
    )


def test_adjusted_p_is_benjamini_hochbergs() -> None:
    rng = np.random.default_rng(12)
    for size in (1, 2, 5, 40):
        p = np.round(rng.uniform(0, 0.2, size), 2)
        found = judged([_change(value) for value in p.tolist()])
        assert [change.adjusted_p for change in found] == pytest.approx(stats.false_discovery_control(p))
        assert [change.p for change in found] == p.tolist()
    assert judged([]) == []


def test_significant_is_sure_and_large() -> None:
    given = [_change(0.001, 0.049), _change(0.001, -0.05), _change(0.001, None), _change(0.04), _change(0.9)]
    assert [change.significant for change in judged(given)] == [False, True, True, False, False]


@pytest.mark.parametrize("scale", [1e-300, 1e-9, 1e9, 1e12])
def test_any_scale_of_values_is_told(scale: float) -> None:
    rng = np.random.default_rng(13)
    before, after = scale * rng.uniform(0.4, 0.5, 60), scale * rng.uniform(0.8, 1.0, 60)
    for found in (
        pre_change("cost.avg", _series(before), _series(after, 60)),
        same_hour("cost.avg", float(after.mean()), before[:14].tolist()),
    ):
        assert _told(found).change == pytest.approx(1.0, abs=0.15)


def test_gaps_disorder_and_broken_values_are_taken() -> None:
    rng = np.random.default_rng(14)
    times = START + STEP * np.array([*range(20), *range(50, 80), *range(200, 230)])
    values = rng.normal(10, 1, times.size)
    shuffled = rng.permutation(times.size)
    broken = Series.of([*times[shuffled], START, START + 1], [*values[shuffled], math.nan, math.inf])
    before = Series.of(times - DAY_MS, rng.normal(10, 1, times.size))
    assert pre_change("cost.avg", before, broken) == pre_change("cost.avg", before, Series.of(times, values))

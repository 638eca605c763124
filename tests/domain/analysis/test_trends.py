"""Trends against pymannkendall and scipy, the inflation against its sum, forecasts against what then came."""

import math

import numpy as np
import pymannkendall
import pytest
from scipy import stats
from scipy.signal import lfilter

from domain.analysis.points import Series
from domain.analysis.trends import Trend, score_variance, trend
from domain.analytics import HOUR_MS

START = 1_760_000_000_000
STEP = 300_000


def _times(n: int) -> list[int]:
    return [START + STEP * i for i in range(n)]


def _unlike(seed: int, n: int) -> np.ndarray:
    """Noise whose neighbours differ, so that no autocorrelation is found."""
    return np.abs(np.random.default_rng(seed).standard_normal(n)) * np.where(np.arange(n) % 2, 1.0, -1.0)


def _noise(rng: np.random.Generator, n: int, rho: float) -> np.ndarray:
    start = rng.standard_normal() * rho
    steps = math.sqrt(1 - rho * rho) * rng.standard_normal(n)
    noise: np.ndarray = lfilter([1], [1, -rho], steps, zi=[start])[0]
    return noise


def _told(found: Trend | None) -> Trend:
    assert found is not None
    return found


@pytest.mark.parametrize("rounded", [False, True])
def test_without_autocorrelation_it_is_mann_kendalls(rounded: bool) -> None:
    values = 20 + _unlike(1, 80) + 0.01 * np.arange(80)
    if rounded:
        values = np.round(values)
    oracle = pymannkendall.original_test(values)
    assert score_variance(values) == pytest.approx(oracle.var_s)
    found = _told(trend("latency.avg", _times(80), values.tolist()))
    assert found.effective_n == 80
    # The same z, held against t with n - 2 degrees of freedom.
    assert found.p == pytest.approx(2 * stats.t.sf(abs(oracle.z), 78))


@pytest.mark.parametrize("gaps", [False, True])
def test_the_slope_is_theil_sens(gaps: bool) -> None:
    rng = np.random.default_rng(2)
    times = np.array(_times(90))
    if gaps:
        times = times[np.sort(rng.choice(90, 50, replace=False))]
    values = rng.standard_t(2, times.size) + (times - START) / HOUR_MS
    found = _told(trend("cost.avg", times.tolist(), values.tolist()))
    slope = stats.theilslopes(values, (times - START) / HOUR_MS).slope
    assert found.slope_per_hour == pytest.approx(slope)
    level = np.median(values - slope * (times - times[0]) / HOUR_MS)
    assert found.change == pytest.approx(slope * (times[-1] - times[0]) / HOUR_MS / abs(level))


def test_the_variance_is_inflated_as_ar1_has_it() -> None:
    n = 100
    values = 50 + _noise(np.random.default_rng(3), n, 0.7)
    found = _told(trend("latency.avg", _times(n), values.tolist()))
    fit = stats.theilslopes(values, method="joint")
    residuals = values - fit.intercept - fit.slope * np.arange(n)
    residuals -= residuals.mean()
    r = float(residuals[:-1] @ residuals[1:]) / float(residuals @ residuals)
    rho = (n * r + 2) / (n - 4)
    t = np.arange(n) - (n - 1) / 2
    inflation = sum(t[i] * t[j] * rho ** abs(i - j) for i in range(n) for j in range(n)) / float(t @ t)
    assert found.effective_n == pytest.approx(n / inflation)
    oracle = pymannkendall.original_test(values)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(oracle.z) / math.sqrt(inflation), n / inflation - 2))


def test_a_clear_rise_and_fall_are_told_with_their_size() -> None:
    rise = 100 + 20 * np.linspace(0, 1, 100) + 2 * _noise(np.random.default_rng(4), 100, 0.5)
    up = _told(trend("latency.avg", _times(100), rise.tolist()))
    down = _told(trend("latency.avg", _times(100), (220 - rise).tolist()))
    assert (up.direction, down.direction, up.significant) == ("up", "down", True)
    assert up.change == pytest.approx(0.2, abs=0.05)
    assert down.slope_per_hour == pytest.approx(-up.slope_per_hour)
    assert [point.at for point in up.forecast] == sorted(point.at for point in up.forecast)
    last = up.forecast[-1]
    assert last.at == START + STEP * 99 * 5 // 4
    assert last.mean == pytest.approx(125, abs=3)


@pytest.mark.parametrize("rho", [0.0, 0.6, 0.8])
def test_forecast_intervals_hold_what_came(rho: float) -> None:
    rng = np.random.default_rng(5)
    runs, n = 400, 100
    held = np.zeros((runs, 2))
    for run in range(runs):
        noise = _noise(rng, n + n // 4, rho) + 0.05 * np.arange(n + n // 4)
        points = _told(trend("x", _times(n), noise[:n].tolist())).forecast
        for place, point in enumerate((points[0], points[-1])):
            came = float(np.interp(point.at, _times(n + n // 4), noise))
            held[run, place] = point.low <= came <= point.high
    assert (held.mean(axis=0) >= 0.92).all()
    assert held.mean() <= 0.99


@pytest.mark.parametrize("value", [0.0, 0.3, 1e12, -7.0])
def test_a_constant_has_no_trend(value: float) -> None:
    found = _told(trend("x", _times(40), [value] * 40))
    assert (found.direction, found.slope_per_hour, found.p, found.significant) == ("none", 0, 1, False)
    assert found.change == (None if value == 0 else 0)
    assert {(point.mean, point.low, point.high) for point in found.forecast} == {(value, value, value)}


def test_rounding_is_no_trend() -> None:
    values = [0.3 + 1e-16 * i for i in range(100)]
    assert not _told(trend("cost.avg", _times(100), values)).significant


def test_mostly_ties_have_no_slope_and_no_direction() -> None:
    values = [0.0] * 60 + [0.02 * (i % 5 == 0) for i in range(40)]
    found = _told(trend("errors.rate", _times(100), values))
    assert (found.slope_per_hour, found.direction, found.significant) == (0, "none", False)


def test_a_forecast_keeps_to_what_the_metric_can_be() -> None:
    falling = (0.5 - np.linspace(0, 0.49, 60) + 0.02 * _unlike(6, 60)).tolist()
    for metric, low, high in (("errors.rate", 0, 1), ("cost.avg", 0, math.inf)):
        points = _told(trend(metric, _times(60), falling)).forecast
        assert all(low <= point.low <= point.mean <= point.high <= high for point in points)
        assert points[-1].low == 0
    rising = [60 + 39 * i / 59 + 0.5 * (-1) ** i for i in range(60)]
    assert _told(trend("quality.avg", _times(60), rising)).forecast[-1].high == 100
    assert _told(trend("anything", _times(60), falling)).forecast[-1].low < 0


def test_few_points_are_not_told() -> None:
    values = _unlike(7, 10).tolist()
    assert trend("x", [], []) is None
    assert trend("x", _times(9), values[:9]) is None
    assert trend("x", _times(10), [*values[:9], math.nan]) is None
    assert trend("x", [START] * 10, values) is None
    assert trend("x", _times(10), values) is not None


def test_order_repeats_and_broken_values_make_no_difference() -> None:
    rng = np.random.default_rng(8)
    times, values = np.array(_times(60)), rng.normal(5, 1, 60)
    mixed = rng.permutation(np.concatenate([np.arange(60), np.arange(60)]))
    found = trend("x", [*times[mixed].tolist(), START, START], [*values[mixed].tolist(), math.nan, math.inf])
    assert found == trend("x", times.tolist(), values.tolist())


def test_long_series_are_averaged_to_120_points() -> None:
    values = 10 + _noise(np.random.default_rng(9), 1440, 0.9) + np.linspace(0, 4, 1440)
    found = _told(trend("latency.avg", _times(1440), values.tolist()))
    thinned = Series.of(_times(1440), values).thinned(120)
    assert found == trend("latency.avg", thinned.times.tolist(), thinned.values.tolist())
    assert (found.n, found.direction) == (120, "up")


@pytest.mark.parametrize("scale", [1e-90, 1e-9, 1e9, 1e12])
def test_any_scale_of_values_is_told(scale: float) -> None:
    values = scale * (0.4 + np.linspace(0, 0.4, 60) + 0.02 * _unlike(10, 60))
    found = _told(trend("x", _times(60), values.tolist()))
    assert found.direction == "up"
    assert found.change == pytest.approx(1.0, abs=0.15)

"""Which test goes with what there is of a service's past, and which windows have a trend."""

from typing import Any

import numpy as np
import pytest

from domain.analysis.analysis import Analysis
from domain.analysis.comparison import (
    DAYS,
    Past,
    Reference,
    WindowTrend,
    compare,
    reference,
    trends,
)
from domain.analysis.points import Series
from domain.analysis.standing import Standing
from domain.analytics import DAY_MS, HOUR_MS, MINUTE_MS
from domain.conditions import Window
from domain.metrics import MetricName

NOW = 20_000 * DAY_MS + 15 * HOUR_MS
METRIC: MetricName = "latency.avg"


def hours(days: float, *, level: float = 100.0, cycle: float = 20.0, seed: int = 7) -> Series:
    """Hours up to now of a metric with a daily cycle and a little noise."""
    n = round(days * 24)
    times = NOW + HOUR_MS // 2 - HOUR_MS * np.arange(n, 0, -1)
    noise = np.random.default_rng(seed).normal(0, 1, n)
    return Series.of(times, level + cycle * np.sin(2 * np.pi * times / DAY_MS) + noise)


def shifted(series: Series, last_hours: int, by: float) -> Series:
    values = series.values.copy()
    values[-last_hours:] += by
    return Series.of(series.times, values)


def past(series: Series, **given: Any) -> Past:
    return Past(until=NOW, hourly={METRIC: series}, **given)


def test_the_same_hours_of_the_days_before_are_the_default() -> None:
    (still,) = compare(past(hours(15))).changes
    assert (still.method, still.n, still.significant) == ("same-hour", DAYS, False)
    (change,) = compare(past(shifted(hours(15), 3, 30))).changes
    assert change.significant
    assert change.now - change.before == pytest.approx(30, abs=2)


def test_soon_after_a_change_the_hours_before_it_are_compared() -> None:
    series = shifted(hours(15), 10, 30)
    (change,) = compare(past(series, changed_at=NOW - 10 * HOUR_MS)).changes
    assert (change.method, change.significant) == ("pre-change", True)
    assert change.now - change.before == pytest.approx(30, abs=3)
    # After four days it is the same hours' turn again, and right after it there are too few.
    for ago in (4 * DAY_MS, 2 * HOUR_MS):
        (later,) = compare(past(series, changed_at=NOW - ago)).changes
        assert later.method == "same-hour"


def test_the_cycle_does_not_pass_for_the_effect_of_a_change() -> None:
    (change,) = compare(past(hours(15, cycle=50), changed_at=NOW - 8 * HOUR_MS)).changes
    assert (change.method, change.significant) == ("pre-change", False)


def test_of_a_young_service_the_last_hours_are_held_against_the_day_before() -> None:
    (change,) = compare(past(shifted(hours(2, cycle=0), 6, 30))).changes
    assert (change.method, change.significant, change.n) == ("rolling", True, 6)


def test_what_cannot_be_tested_is_said() -> None:
    found = compare(past(hours(0.2)))
    assert found.changes == []
    told = {one.metric: one.reason for one in found.untested}
    assert told[METRIC] == "too few hours or days to compare with"
    assert told["cost.avg"] == "no hour of the last 3 has enough"
    stale = Series.of(hours(10).times - DAY_MS, hours(10).values)
    assert compare(past(stale)).changes == []


def test_a_golden_baseline_is_a_comparison_of_its_own() -> None:
    series = hours(15)
    kept = reference(series)
    assert kept is not None
    assert kept.hours == 360
    assert kept.mean == pytest.approx(100, abs=1)
    found = compare(past(series, golden={METRIC: Reference(mean=150, error=1, hours=100)})).changes
    assert [(change.method, change.significant) for change in found] == [
        ("same-hour", False),
        ("golden", True),
    ]
    assert found[1].before == 150


def test_the_error_of_a_reference_grows_with_what_neighbours_share() -> None:
    """For AR(1) with rho .8 the mean of n hours has nine times the variance of n independent ones."""
    rng = np.random.default_rng(3)
    n, rho = 4_000, 0.8
    noise = rng.normal(0, 1, n)
    values = np.empty(n)
    values[0] = noise[0] / np.sqrt(1 - rho**2)
    for index in range(1, n):
        values[index] = rho * values[index - 1] + noise[index]
    times = HOUR_MS * np.arange(n)
    kept = reference(Series.of(times, values))
    assert kept is not None
    sd = 1 / np.sqrt(1 - rho**2)
    assert kept.error == pytest.approx(sd * np.sqrt(9 / n), rel=0.15)
    assert reference(Series.of([0, HOUR_MS], [1.0, 2.0])) is None


def points(count: int, step: int, rise: float) -> Series:
    times = NOW + step // 2 - step * np.arange(count, 0, -1)
    noise = np.random.default_rng(5).normal(0, 0.5, count)
    return Series.of(times, 100 + rise * np.arange(count) / count + noise)


def test_a_trend_of_each_window_that_has_points() -> None:
    known = past(hours(15, cycle=0))
    windows: Any = {
        "1h": {METRIC: points(60, MINUTE_MS, 20)},
        "24h": {METRIC: points(96, 15 * MINUTE_MS, 20)},
        "7d": {METRIC: points(168, HOUR_MS, 20)},
    }
    found = trends(known, windows, NOW)
    assert [(one.window, one.deseasonalised, one.trend.direction) for one in found] == [
        ("1h", True, "up"),
        ("24h", True, "up"),
        ("7d", True, "up"),
    ]
    assert all(one.trend.change == pytest.approx(0.2, abs=0.02) for one in found)


def test_a_window_with_few_points_or_an_unknown_cycle_has_no_trend() -> None:
    young = past(hours(1))
    half = points(29, MINUTE_MS, 20)
    old = Series.of(points(60, MINUTE_MS, 20).times - HOUR_MS, points(60, MINUTE_MS, 20).values)
    day = points(96, 15 * MINUTE_MS, 20)
    without: list[dict[Window, dict[str, Series]]] = [
        {"1h": {METRIC: half}},
        {"1h": {METRIC: old}},
        {"24h": {METRIC: day}},
        {"7d": {}},
    ]
    for windows in without:
        assert trends(young, windows, NOW) == []
    (hour,) = trends(young, {"1h": {METRIC: points(60, MINUTE_MS, 20)}}, NOW)
    assert not hour.deseasonalised


def test_an_analysis_in_one_line() -> None:
    standing = Standing(requests=7, metrics={}, breaches=[])
    assert Analysis(standing=standing).in_words() == standing.in_words()
    changes = compare(past(shifted(hours(15), 3, 30))).changes
    (trend,) = trends(past(hours(15, cycle=0)), {"1h": {METRIC: points(60, MINUTE_MS, 20)}}, NOW)
    whole = Analysis(standing=standing, changes=changes, trends=[trend])
    words = whole.in_words()
    assert "Changed: latency.avg" in words
    assert "of the same hours of 14 days" in words
    assert "Trends: latency.avg up by 20% over 1h" in words
    assert Analysis.model_validate(whole.to_json()) == whole
    assert WindowTrend.model_validate(trend.to_json()) == trend

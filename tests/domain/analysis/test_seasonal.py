"""The daily profile against cycles that are known."""

import numpy as np
import pytest

from domain.analysis.points import Series
from domain.analysis.seasonal import DailyProfile, deseasonalised
from domain.analytics import DAY_MS, HOUR_MS

START = 20_000 * DAY_MS
STEP = 300_000


def _times(days: float) -> np.ndarray:
    return START + STEP * np.arange(int(days * DAY_MS / STEP))


def _cycle(times: np.ndarray) -> np.ndarray:
    return np.sin(2 * np.pi * (times % DAY_MS) / DAY_MS)


@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_a_sine_comes_off_and_a_trend_stays(slope: float) -> None:
    times = _times(8)
    values = 10 + 3 * _cycle(times) + slope * (times - START) / DAY_MS
    profile = DailyProfile.of(Series.of(times, values))
    cleaned = deseasonalised(Series.of(times, values), profile)
    # The middle of an hour stands for it: what is left is the sine's bend within an hour.
    np.testing.assert_allclose(cleaned.values, 10 + slope * (times - START) / DAY_MS, atol=0.05)


def test_offsets_are_the_medians_of_an_hour_over_the_days() -> None:
    hours = START + HOUR_MS * np.arange(24 * 9)
    values = np.where(np.arange(24 * 9) % 24 == 6, 24.0, 0.0)
    # One broken day moves the mean of that hour, not its median.
    values[24 * 4 + 6] = 240.0
    offsets = DailyProfile.of(Series.of(hours, values)).offsets
    assert offsets.sum() == pytest.approx(0, abs=1e-9)
    assert offsets[6] == pytest.approx(23.0)
    assert np.delete(offsets, 6) == pytest.approx(-1.0)


@pytest.mark.parametrize(("days", "known"), [(0, 0), (0.5, 0), (1, 0), (2, 0), (3, 24), (14, 24)])
def test_three_days_make_a_profile(days: float, known: int) -> None:
    profile = DailyProfile.of(Series.of(_times(days), 5 + _cycle(_times(days))))
    assert np.isfinite(profile.offsets).sum() == known
    assert np.isfinite(profile.variances).sum() == known


def test_points_of_unknown_hours_are_left_out() -> None:
    times = _times(6)
    at_night = times % DAY_MS < 3 * HOUR_MS
    profile = DailyProfile.of(Series.of(times[~at_night], 5 + _cycle(times[~at_night])))
    assert np.flatnonzero(np.isnan(profile.offsets)).tolist() == [0, 1, 2]
    left = deseasonalised(Series.of(times, np.ones(times.size)), profile)
    assert set((left.times // HOUR_MS % 24).tolist()) == set(range(3, 24))
    assert len(deseasonalised(Series.of(times, np.ones(times.size)), DailyProfile.of(Series.of([], [])))) == 0


def test_what_is_older_than_14_days_is_forgotten() -> None:
    times = _times(40)
    values = np.where(times < START + 24 * DAY_MS, -5, 1) * _cycle(times)
    fresh = times >= START + 26 * DAY_MS
    both = [
        DailyProfile.of(Series.of(t, v)).offsets for t, v in ((times, values), (times[fresh], values[fresh]))
    ]
    np.testing.assert_allclose(both[0], both[1])


def test_the_profiles_error_is_that_of_a_median() -> None:
    # Hourly white noise: the offset of an hour over d days varies as the median of d normal values.
    rng = np.random.default_rng(3)
    hours = START + HOUR_MS * np.arange(24 * 12)
    found = [DailyProfile.of(Series.of(hours, rng.standard_normal(hours.size))) for _ in range(300)]
    observed = np.mean([profile.offsets**2 for profile in found])
    assert np.mean([profile.variances for profile in found]) == pytest.approx(observed, rel=0.15)


def test_hours_that_both_sides_cover_add_no_error() -> None:
    rng = np.random.default_rng(4)
    times = _times(5)
    profile = DailyProfile.of(Series.of(times, rng.standard_normal(times.size)))
    morning, evening = times[: 12 * 6], times[12 * 12 : 12 * 18]
    assert profile.variance_between(morning, morning + DAY_MS) == 0
    expected = float(np.sum(profile.variances[:6]) + np.sum(profile.variances[12:18])) / 36
    assert profile.variance_between(morning, evening) == pytest.approx(expected)

"""Series as they come: disordered, doubled, broken."""

import numpy as np
import pytest

from domain.analysis.points import Series, is_constant


def test_times_are_ordered_and_the_values_of_one_time_averaged() -> None:
    series = Series.of([3000, 1000, 2000, 1000], [5.0, 1.0, 4.0, 2.0])
    assert series.times.tolist() == [1000, 2000, 3000]
    assert series.values.tolist() == [1.5, 4.0, 5.0]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e13, -1e300])
def test_what_is_no_value_is_left_out(value: float) -> None:
    series = Series.of([1000, 2000, 3000], [1.0, value, 3.0])
    assert series.times.tolist() == [1000, 3000]
    assert series.step == 2000


def test_nothing_is_a_series_too() -> None:
    empty = Series.of([], [])
    assert (len(empty), empty.step, empty.adjacent.size, len(empty.thinned(10))) == (0, 1, 0, 0)
    assert Series.of([5], [1.0]).adjacent.size == 0


def test_not_as_many_times_as_values_is_refused() -> None:
    with pytest.raises(ValueError, match="2 times for 3 values"):
        Series.of([1, 2], [1.0, 2.0, 3.0])


def test_a_gap_parts_neighbours() -> None:
    assert Series.of([0, 10, 20, 60, 70], [0.0] * 5).adjacent.tolist() == [True, True, False, True]


@pytest.mark.parametrize(("n", "expected"), [(120, 120), (121, 61), (240, 120), (288, 96), (1440, 120)])
def test_thinning_averages_whole_stretches(n: int, expected: int) -> None:
    times, values = np.arange(n) * 60_000, np.arange(n, dtype=float)
    thinned = Series.of(times, values).thinned(120)
    assert len(thinned) == expected
    of_one = -(-n // 120)
    assert thinned.values[0] == values[:of_one].mean()
    assert thinned.values[-1] == values[(expected - 1) * of_one :].mean()
    assert (np.diff(thinned.times[:-1]) == of_one * 60_000).all()


def test_thinning_with_gaps_keeps_the_bound() -> None:
    rng = np.random.default_rng(1)
    times = np.sort(rng.choice(100_000, 300, replace=False)) * 1000
    thinned = Series.of(times, times.astype(float)).thinned(120)
    assert len(thinned) <= 120
    assert (np.diff(thinned.times) > 0).all()
    np.testing.assert_allclose(thinned.values, thinned.times, atol=1)


def test_rounding_is_no_variance() -> None:
    assert is_constant(np.array([0.1 + 0.2, 0.3]))
    assert is_constant(np.array([]))
    assert is_constant(np.zeros(3))
    assert not is_constant(np.array([0.3, 0.3001]))
    assert not is_constant(np.array([0.0, 1e-12]))

"""What cumulative histograms tell of the calls that they counted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.telemetry import SeriesState, increase, split, values

BOUNDS = (0.1, 0.5, 2.0)


def state(at: int, *buckets: int, total: float = 1.0) -> SeriesState:
    return SeriesState(at, sum(buckets), total, buckets)


def test_what_came_since_is_the_difference() -> None:
    new = increase(state(1, 1, 2, 0, 0, total=0.7), state(2, 1, 3, 0, 1, total=5.0))
    assert (new.at, new.count, new.buckets) == (2, 2, (0, 1, 0, 1))
    assert new.sum == pytest.approx(4.3)


@pytest.mark.parametrize("before", [None, state(1, 5, 0, 0, 0), state(1, 2, 0), state(1, 0, 9, 0, 0)])
def test_a_series_that_began_anew_counts_whole(before: SeriesState | None) -> None:
    now = state(2, 1, 1, 0, 0)
    assert increase(before, now) == now


@given(st.lists(st.floats(0, 1.99), min_size=1, max_size=50))
def test_as_many_values_in_each_bucket_and_together_the_sum(seen: list[float]) -> None:
    buckets = [0, 0, 0, 0]
    for value in seen:
        buckets[next(index for index, bound in enumerate(BOUNDS) if value <= bound)] += 1
    made = values(SeriesState(1, len(seen), sum(seen), tuple(buckets)), BOUNDS)
    assert len(made) == len(seen)
    assert sum(made) == pytest.approx(sum(seen), abs=1e-9)
    for index, (low, high) in enumerate(zip((0.0, *BOUNDS), BOUNDS, strict=False)):
        inside = [value for value in made if low - 1e-9 <= value <= high + 1e-9]
        assert len(inside) >= buckets[index]


def test_what_passes_every_bound_has_the_rest_of_the_sum() -> None:
    made = values(state(1, 1, 0, 0, 2, total=20.1), BOUNDS)
    assert sum(made) == pytest.approx(20.1)
    assert made[0] <= 0.1
    assert made[1] == made[2] > 2.0


def test_without_buckets_each_is_the_mean() -> None:
    assert values(SeriesState(1, 4, 2.0), ()) == [0.5] * 4
    assert values(SeriesState(1, 0, 0.0), ()) == []


def test_a_whole_number_is_split_into_whole_parts() -> None:
    assert split(11, 4) == [3, 3, 3, 2]
    assert split(0, 2) == [0, 0]

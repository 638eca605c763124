"""Totals of windows: those of all the values in them, however they are cut into cells."""

import numpy as np
import pytest

from domain.totals import Amount, Totals
from domain.windows import Windows


def totals(values: np.ndarray, at: int | None) -> Totals:
    return Totals(
        n=values.size,
        errors=int((values > 900).sum()),
        last_at=at,
        latency=Amount.of(values),
        cost=Amount.of(values / 1e5),
        extremes=int((values < 10).sum()),
    )


def test_a_window_is_the_totals_of_all_its_values() -> None:
    rng = np.random.default_rng(1)
    drawn = {at: rng.lognormal(6, 1, int(rng.integers(1, 60))) for at in range(0, 500, 10)}
    windows = Windows(sketches=("latency",))
    for at in rng.permutation(list(drawn)):
        windows.add(int(at), ("a",), totals(drawn[int(at)], int(at) + 7))
    windows.add(120, ("b",), totals(np.array([5.0]), 121))
    for start, end in ((0, 500), (100, 130), (110, 111), (-50, 20), (333, 470)):
        inside = [values for at, values in drawn.items() if start <= at < end]
        expected, found = totals(np.concatenate(inside), None), windows.over(start, end)["a",]
        assert (found.n, found.errors, found.extremes) == (expected.n, expected.errors, expected.extremes)
        assert found.last_at == max(at for at in drawn if start <= at < end) + 7
        assert found.cost.total == pytest.approx(expected.cost.total, rel=1e-12)
        assert found.latency.squares == pytest.approx(expected.latency.squares, rel=1e-12)
        assert found.latency.sketch is not None
        assert expected.latency.sketch is not None
        assert found.latency.sketch.to_bytes() == expected.latency.sketch.to_bytes()
        assert found.cost.sketch is None
        assert (("b",) in windows.over(start, end)) == (start <= 120 < end)


def test_a_window_without_a_cell_has_nothing() -> None:
    windows = Windows()
    assert windows.over(0, 100) == {}
    windows.add(50, (), Totals(n=1, last_at=50))
    assert windows.over(0, 50) == windows.over(51, 60) == {}
    assert windows.over(50, 51)[()].n == 1


def test_a_group_begins_with_its_first_request() -> None:
    windows = Windows()
    windows.add(10, ("a",), Totals(quality=Amount(1, 80.0, 6_400.0)))
    windows.add(20, ("a",), Totals(n=1, last_at=20))
    windows.add(30, ("a",), Totals(n=1, last_at=30))
    windows.add(15, ("b",), Totals(n=2, last_at=15))
    assert windows.begins(0) == {("a",): 20, ("b",): 15}
    assert windows.begins(21) == {("a",): 30}
    assert set(windows.groups) == {("a",), ("b",)}
    assert windows.over(10, 11)["a",].last_at is None

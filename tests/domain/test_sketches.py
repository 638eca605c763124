"""Quantile sketches against numpy's own quantiles."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.sketches import RELATIVE_ERROR, ZERO_BIN, Sketch, quantiles_of

SHARES = [0.0, 0.01, 0.25, 0.5, 0.95, 0.99, 1.0]
values = st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=300)


@given(values)
def test_a_quantile_is_within_one_percent_of_the_interpolated_one(given_values: list[float]) -> None:
    found = Sketch.of_values(given_values).quantiles(SHARES)
    assert found == pytest.approx(np.quantile(given_values, SHARES), rel=RELATIVE_ERROR * 1.0001)


@given(st.lists(values, min_size=1, max_size=8))
def test_joined_bytes_are_the_sketch_of_all(parts: list[list[float]]) -> None:
    joined = Sketch.of_bytes(b"".join(Sketch.of_values(part).to_bytes() for part in parts))
    whole = Sketch.of_values([value for part in parts for value in part])
    assert joined.bins.tolist() == whole.bins.tolist()
    assert joined.counts.tolist() == whole.counts.tolist()


def test_many_pairs_are_merged_as_few_are() -> None:
    rng = np.random.default_rng(3)
    drawn = rng.lognormal(6, 1, 10_000)
    pairs = b"".join(Sketch.of_values([value]).to_bytes() for value in drawn)
    merged, whole = Sketch.of_bytes(pairs), Sketch.of_values(drawn)
    assert merged.bins.tolist() == whole.bins.tolist()
    assert merged.counts.tolist() == whole.counts.tolist()
    assert merged.n == 10_000


def test_nil_has_a_bin_of_its_own() -> None:
    sketch = Sketch.of_values([0.0, 0.0, 1e-13, 5.0])
    assert sketch.bins[0] == ZERO_BIN
    assert sketch.quantiles([0.0, 0.5]).tolist() == [0.0, 0.0]
    assert Sketch.of_bytes(sketch.to_bytes()).counts.tolist() == [3, 1]


def test_nothing_has_no_quantile() -> None:
    assert Sketch.of_bytes(None).n == 0
    assert np.isnan(Sketch.of_bytes(b"").quantiles([0.5])).all()


@given(st.lists(st.lists(st.floats(0, 1e9), max_size=20), max_size=8))
def test_many_at_once_are_what_each_is(parts: list[list[float]]) -> None:
    sketches = [Sketch.of_values(part) for part in parts]
    read = Sketch.of_many([sketch.to_bytes() for sketch in sketches])
    assert [(sketch.bins.tolist(), sketch.counts.tolist()) for sketch in read] == [
        (sketch.bins.tolist(), sketch.counts.tolist()) for sketch in sketches
    ]
    together = quantiles_of(sketches, SHARES)
    assert together.shape == (len(parts), len(SHARES))
    for found, sketch in zip(together, sketches, strict=True):
        np.testing.assert_array_equal(found, sketch.quantiles(SHARES))

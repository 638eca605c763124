"""The sketch against numpy's quantiles."""

import numpy as np
import pytest

from domain.gate.sketch import Sketch


def test_quantiles_are_within_a_bin_of_the_exact_ones() -> None:
    rng = np.random.default_rng(1)
    parts = [rng.lognormal(6, 0.8, size) for size in (10, 500, 2000)]
    sketch = Sketch()
    for part in parts:
        sketch = sketch.add(part, 0.25)
    at = [0.05, 0.5, 0.9, 0.95, 0.99]
    assert sketch.quantiles(at) == pytest.approx(np.quantile(np.concatenate(parts), at), rel=0.05)


def test_weights_weigh() -> None:
    sketch = Sketch().add(np.full(10, 100.0), 9.0).add(np.full(90, 1000.0), 1 / 9)
    # 90 of 100 in weight lie at 100 ms.
    assert sketch.quantiles([0.8, 0.95]) == [pytest.approx(100, rel=0.05), pytest.approx(1000, rel=0.05)]


def test_what_cannot_be_known_is_none() -> None:
    assert Sketch().quantiles([0.5]) == [None]
    assert Sketch().add(np.array([5.0]), 0.0).quantiles([0.5]) == [None]
    assert Sketch().add(np.array([5.0]), 1.0).quantiles([0.0, 1.0, 1.2, -0.1]) == [None] * 4


def test_the_widest_range_stays_small() -> None:
    sketch = Sketch().add(np.array([0.0, 1e12]), 1.0)
    assert len(sketch.weights) < 600
    assert sketch.quantiles([0.25])[0] == pytest.approx(1, rel=0.05)

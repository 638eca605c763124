"""What autocorrelated values are worth, against sums and a simulation."""

import numpy as np
import pytest
from scipy.signal import lfilter

from domain.analysis.autocorrelation import inflation, lag_one


@pytest.mark.parametrize("n", [2, 7, 60, 288])
@pytest.mark.parametrize("rho", [0.0, 0.3, 0.8, 0.97])
def test_the_inflation_is_the_sum_over_all_pairs(n: int, rho: float) -> None:
    lags = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    assert inflation(n, rho) == pytest.approx(float((rho**lags).mean()) * n)


def test_a_long_series_is_worth_what_the_textbook_says() -> None:
    assert 1e6 / inflation(1_000_000, 0.6) == pytest.approx(1e6 * (1 - 0.6) / (1 + 0.6), rel=1e-4)


def test_lag_one_is_that_of_the_noise() -> None:
    noise = lfilter([1], [1, -0.7], np.random.default_rng(1).standard_normal(100_000))
    assert lag_one([(noise, np.ones(noise.size - 1, bool))]) == pytest.approx(0.7, abs=0.01)


def test_pairs_across_a_gap_do_not_count() -> None:
    residuals = np.array([1.0, 1.0, -1.0, -1.0])
    assert lag_one([(residuals, np.array([True, True, True]))]) == pytest.approx(1 / 3)
    assert lag_one([(residuals, np.array([True, False, True]))]) == 1
    assert lag_one([(residuals, np.array([False, False, False]))]) == 0
    assert lag_one([(np.zeros(4), np.array([True, True, True]))]) == 0


def test_parts_are_pooled() -> None:
    rng = np.random.default_rng(2)
    one, other = rng.standard_normal(50), rng.standard_normal(80)
    products = float(one[:-1] @ one[1:] + other[:-1] @ other[1:]) / 128
    squares = float(one @ one + other @ other) / 130
    parts = [(part, np.ones(part.size - 1, bool)) for part in (one, other)]
    assert lag_one(parts) == pytest.approx(products / squares)

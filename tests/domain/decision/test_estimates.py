"""Standard errors against closed forms and resampling."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy.stats import beta

from domain.decision.estimates import average, observation_of, percentile, rate
from domain.sketches import RELATIVE_ERROR, Sketch
from domain.totals import Amount, Totals
from tests.domain.decision.scenarios import config

RNG = np.random.default_rng(7)
SKEWED = np.exp(RNG.normal(6, 0.8, 800))


def totals(n: int = 4, errors: int = 0, **values: list[float]) -> Totals:
    scores = values.get("quality", [])
    amounts: dict[str, Any] = {name: Amount.of(given) for name, given in values.items()}
    return Totals(
        n=n,
        errors=errors,
        extremes=sum(score in (0, 100) for score in scores),
        **amounts,
    )


def observe(**given: Any) -> dict[str, tuple[float, float]]:
    made = observation_of(config(), totals(**given))
    return {name: (estimate.mean, estimate.se) for name, estimate in made.metrics.items()}


@pytest.mark.parametrize("p", [0.5, 0.8, 0.95])
def test_percentile_error_is_that_of_every_resample(p: float) -> None:
    """All 5^5 bootstrap samples of five values: the spread of their order statistic, exactly."""
    values = np.array([3.0, 10.0, 11.0, 40.0, 95.0])
    rank = min(5, int(np.floor(p * 5 + 0.5)))
    resampled = [sorted(drawn)[rank - 1] for drawn in product(values, repeat=5)]
    sketch = Sketch.of_values(values)
    told = sketch.values
    assert told == pytest.approx(values, rel=RELATIVE_ERROR)
    estimate = percentile(sketch, p)
    assert estimate.mean == pytest.approx(np.quantile(told, p))
    drawn = told[np.searchsorted(values, resampled)]
    assert estimate.se == pytest.approx(np.std(drawn))


def test_percentile_error_is_what_resampling_finds() -> None:
    samples = RNG.choice(SKEWED, (4000, SKEWED.size))
    resampled = np.quantile(samples, 0.95, axis=1, method="inverted_cdf").std()
    assert percentile(Sketch.of_values(SKEWED), 0.95).se == pytest.approx(resampled, rel=0.1)


def test_average_and_rate_in_closed_form() -> None:
    estimate = average(Amount.of([1.0, 2.0, 3.0, 6.0]))
    assert (estimate.mean, estimate.se) == pytest.approx((3.0, np.std([1, 2, 3, 6], ddof=1) / 2))
    share = rate(3, 200)
    posterior = beta(3.5, 197.5)
    assert share.mean == pytest.approx(posterior.mean())
    assert share.se == pytest.approx(posterior.std())


def test_no_error_seen_is_not_a_rate_known_to_be_zero() -> None:
    assert rate(0, 100).mean > 0
    assert rate(0, 100).se > 0
    assert rate(100, 100).se > 0


def test_right_or_wrong_is_a_rate_and_graded_scores_a_mean() -> None:
    always_right = (87.5, 100 * beta(3.5, 0.5).std())
    assert observe(quality=[100, 100, 100])["quality.avg"] == pytest.approx(always_right)
    assert observe(quality=[80, 90])["quality.avg"][0] == 85


def test_what_is_missing_is_left_out() -> None:
    assert set(observe()) == {"errors.rate"}
    assert observe(n=0) == {}
    assert set(observe(errors=4)) == {"errors.rate"}


def test_one_request() -> None:
    one = observe(n=1, latency=[120.0], cost=[0.01], quality=[70.0], tokens_input=[5], tokens_output=[9])
    assert one["cost.avg"] == (0.01, 0.01)
    assert one["latency.avg"] == (120.0, 120.0)
    assert one["latency.p95"] == pytest.approx((120.0, 120.0), rel=RELATIVE_ERROR)


def test_a_constant_series_has_no_error() -> None:
    made = observe(latency=[100.0] * 50, tokens_output=[7.0] * 50)
    assert made["latency.avg"] == (100.0, 0.0)
    assert made["latency.p95"] == pytest.approx((100.0, 0.0), rel=RELATIVE_ERROR)


def test_tokens_are_a_mean_and_101_quantiles() -> None:
    made = observation_of(config(), totals(n=101, tokens_input=[10, 20] * 50, tokens_output=list(range(101))))
    assert made.tokens is not None
    assert made.tokens.input == 15
    assert made.tokens.output_quantiles == pytest.approx(list(range(101)), rel=RELATIVE_ERROR)

"""The widening factor: its closed form with few entries, its limit with many, and what it does in use."""

from math import sqrt

import numpy as np
import pytest
from scipy import optimize, stats

from domain.decision.responses import Z90
from domain.ledger.widening import LEVEL, MOST, PRIOR_WEIGHT, widening
from tests.domain.ledger.entries import cost_entry


def test_nothing_is_widened_without_evidence() -> None:
    assert widening([]) == pytest.approx(1.0)
    assert widening([], prior=1.7) == pytest.approx(1.7)


def test_it_never_narrows_and_is_capped() -> None:
    assert widening([0.1] * 200) == 1.0
    assert widening([50.0] * 200) == MOST


@pytest.mark.parametrize(
    "needs", [[3.0], [3.0, 3.0], [0.2, 0.9, 1.4, 2.2], list(np.linspace(0.1, 3.0, 40)), [1.2] * 7]
)
@pytest.mark.parametrize("prior", [1.0, 1.5])
def test_it_is_the_quantile_of_the_needs_with_the_priors_share(needs: list[float], prior: float) -> None:
    """The definition solved numerically: the least q that covers the level of both together."""

    def short(q: float) -> float:
        pseudo = 2 * stats.norm.cdf(Z90 * q / prior) - 1
        covered = np.count_nonzero(np.array(needs) <= q) + PRIOR_WEIGHT * pseudo
        return float(LEVEL * (len(needs) + PRIOR_WEIGHT) - covered)

    least = optimize.bisect(lambda q: 1.0 if short(q) > 0 else -1.0, 0.0, 20.0, xtol=1e-9)
    assert widening(needs, prior) == pytest.approx(min(max(least, 1.0), MOST), rel=1e-6)


def test_one_miss_widens_little_by_a_closed_form() -> None:
    # 20 F(q) >= 0.899 x 21
    expected = stats.norm.ppf((1 + LEVEL * 21 / 20) / 2) / Z90
    assert widening([9.0]) == pytest.approx(expected)
    assert expected < 1.2


@pytest.mark.parametrize("truth", [1.0, 2.0, 3.0])
def test_with_many_entries_it_is_how_much_too_sure_they_are(truth: float) -> None:
    rng = np.random.default_rng(11)
    sd, errors = 0.1, rng.exponential(0.1, 1_500)
    needs = []
    for se in errors:
        error = rng.normal(0.0, sqrt((truth * sd) ** 2 + se**2))
        found = cost_entry(promised=0.0, sd=sd, measured=error, se=se).comparison
        assert found is not None
        needs.append(found.need)
    assert widening(needs) == pytest.approx(truth, rel=0.08)


def test_predictions_twice_too_sure_come_to_hold_nine_times_in_ten() -> None:
    """As it is used: each prediction is widened by what those before it needed."""
    held_late, factors, held_unwidened = [], [], []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        needs: list[float] = []
        for number in range(300):
            factor = widening(needs)
            sd, error = 0.1 * factor, rng.normal(0.0, sqrt(0.2**2 + 0.05**2))
            found = cost_entry(promised=0.0, sd=sd, measured=error, se=0.05, widening=factor).comparison
            assert found is not None
            needs.append(found.need)
            if number >= 150:
                held_late.append(found.held)
            held_unwidened.append(abs(error) <= Z90 * sqrt(0.1**2 + 0.05**2))
        factors.append(widening(needs))
    assert np.mean(held_unwidened) < 0.7
    assert np.mean(held_late) == pytest.approx(0.9, abs=0.035)
    assert np.mean(factors) == pytest.approx(2.0, abs=0.15)


def test_right_predictions_are_hardly_widened() -> None:
    rng = np.random.default_rng(3)
    factors = [widening(list(np.abs(rng.normal(size=20)) / Z90)) for _ in range(300)]
    assert np.mean(factors) < 1.1
    assert np.quantile(factors, 0.95) < 1.35


def test_a_service_is_shrunk_towards_all_services() -> None:
    assert widening([0.5] * 3, prior=2.0) == pytest.approx(2.0, abs=0.25)
    assert widening(list(np.abs(np.random.default_rng(1).normal(size=2_000)) / Z90), prior=2.0) < 1.1

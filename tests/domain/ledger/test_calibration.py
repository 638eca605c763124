"""Coverage with its exact interval, bias and sharpness, and confidence against scikit-learn and Murphy."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import brier_score_loss

from domain.ledger.brier import BINS, confidence_score
from domain.ledger.calibration import calibration, share
from domain.ledger.entry import Comparison
from tests.domain.ledger.entries import cost_entry


def compared(error: float, sd: float = 0.1, se: float = 0.0) -> Comparison:
    found = cost_entry(promised=0.2, sd=sd, measured=0.2 + error, se=se).comparison
    assert found is not None
    return found


@pytest.mark.parametrize(("events", "n"), [(0, 7), (7, 7), (9, 10), (450, 500), (1, 1)])
def test_a_shares_interval_is_that_of_clopper_and_pearson(events: int, n: int) -> None:
    found = share(events, n)
    expected = stats.binomtest(events, n).proportion_ci(0.95, method="exact")
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((events / n, expected.low, expected.high))


def test_coverage_bias_and_sharpness_by_hand() -> None:
    found = calibration([compared(0.1), compared(0.3), compared(-0.05, sd=0.3)], one_metric=True)
    assert (found.predictions, found.held) == (3, 2)
    assert found.coverage is not None
    assert found.coverage.value == pytest.approx(2 / 3)
    assert found.bias == pytest.approx(0.35 / 3)
    assert found.sharpness == pytest.approx(1.64 * 0.5 / 3)
    z = [1.0, 3.0, -0.05 / 0.3]
    assert found.standardised_bias == pytest.approx(np.mean(z))
    assert found.standardised_spread == pytest.approx(np.sqrt(np.mean(np.square(z))))


def test_over_several_metrics_there_is_no_bias_in_any_unit() -> None:
    found = calibration([compared(0.1)], one_metric=False)
    assert (found.bias, found.sharpness) == (None, None)
    assert found.standardised_bias == pytest.approx(1.0)


def test_too_few_say_so() -> None:
    assert calibration([], one_metric=True).note == "Not enough yet: 0 measured, of 10 needed to judge by."
    assert calibration([], one_metric=True).coverage is None
    assert calibration([compared(0.1)] * 9, one_metric=True).note is not None
    assert calibration([compared(0.1)] * 10, one_metric=True).note is None


@pytest.mark.parametrize("seed", range(3))
def test_the_brier_score_is_scikit_learns_and_its_parts_add_up_to_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    said = rng.uniform(size=60)
    came = rng.uniform(size=60) < said**2
    found = confidence_score(said.tolist(), came.tolist())
    assert found.brier == pytest.approx(brier_score_loss(came, said))
    assert found.reliability is not None
    assert found.resolution is not None
    assert found.uncertainty is not None
    assert found.within_bins is not None
    whole = found.reliability - found.resolution + found.uncertainty + found.within_bins
    assert found.brier == pytest.approx(whole, abs=1e-12)
    assert sum(each.plans for each in found.bins) == 60


def test_with_one_confidence_to_a_bin_the_parts_are_murphys() -> None:
    """Murphy 1973, eq. 6, by hand: four plans at .9 of which three came true, two at .3 of which none did."""
    found = confidence_score([0.9] * 4 + [0.3] * 2, [True, True, True, False, False, False])
    assert found.reliability == pytest.approx((4 * 0.15**2 + 2 * 0.3**2) / 6)
    assert found.resolution == pytest.approx((4 * 0.25**2 + 2 * 0.5**2) / 6)
    assert found.uncertainty == pytest.approx(0.25)
    assert found.within_bins == pytest.approx(0.0, abs=1e-15)
    filled = [each for each in found.bins if each.plans]
    assert [(each.low, each.plans) for each in filled] == [(0.2, 2), (0.8, 4)]
    assert [each.confidence for each in filled] == pytest.approx([0.3, 0.9])


def test_certainty_belongs_to_the_last_bin_and_nothing_to_none() -> None:
    found = confidence_score([1.0, 0.0], [True, False])
    assert [each.plans for each in found.bins] == [1, 0, 0, 0, 1]
    assert found.brier == 0.0
    empty = confidence_score([], [])
    assert (empty.plans, empty.brier, len(empty.bins)) == (0, None, BINS)
    assert empty.note is not None

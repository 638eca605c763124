"""The count tests against enumeration, likelihoods and Ville's bound."""

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from domain.gate.counts import LARGEST_EVIDENCE, Count, against_bound, at_odds, evidence, mixture, ratio_step
from domain.gate.errors import HARM_MULTIPLES, PROOF_MULTIPLES
from domain.gate.tail import MULTIPLES as TAIL_MULTIPLES


def _expected(
    n_first: int, n_second: int, p_first: float, p_second: float, r0: float, grid: tuple[float, ...]
) -> float:
    """E of one bucket's e-value over every outcome."""
    total = 0.0
    for k_first, k_second in product(range(n_first + 1), range(n_second + 1)):
        chance = stats.binom.pmf(k_first, n_first, p_first) * stats.binom.pmf(k_second, n_second, p_second)
        step = ratio_step(Count(k_first, n_first), Count(k_second, n_second), r0, grid)
        total += float(chance) * float(np.exp(step).mean())
    return total


@pytest.mark.parametrize("p_second", [0.01, 0.1, 0.4])
@pytest.mark.parametrize(("n_first", "n_second"), [(1, 1), (3, 9), (12, 4)])
@pytest.mark.parametrize(
    ("r0", "grid"), [(1.25, HARM_MULTIPLES), (1 / 2.5, PROOF_MULTIPLES), (1.0, TAIL_MULTIPLES)]
)
def test_no_bucket_gains_evidence_under_the_null(
    n_first: int, n_second: int, p_second: float, r0: float, grid: tuple[float, ...]
) -> None:
    for part in (1.0, 0.7, 0.0):
        assert _expected(n_first, n_second, part * r0 * p_second, p_second, r0, grid) <= 1 + 1e-12


def test_evidence_is_gained_beyond_the_null() -> None:
    assert _expected(12, 12, 0.5, 0.1, 1.25, HARM_MULTIPLES) > 2


def test_one_bucket_is_the_conditional_likelihood_ratio() -> None:
    # Given the total of events, those of the first arm are binomial with odds n_first r / n_second.
    first, second, r0, multiple = Count(7, 60), Count(5, 540), 1.25, 4.0

    def ln_likelihood(r: float) -> float:
        p = first.trials * r / (first.trials * r + second.trials)
        return float(stats.binom.logpmf(first.events, first.events + second.events, p))

    expected = ln_likelihood(r0 * multiple) - ln_likelihood(r0)
    assert ratio_step(first, second, r0, [multiple])[0] == pytest.approx(expected, rel=1e-9)


def test_a_bucket_without_one_arm_says_nothing() -> None:
    assert not ratio_step(Count(5, 5), Count(0, 0), 1.25, HARM_MULTIPLES).any()
    assert not ratio_step(Count(0, 0), Count(5, 5), 1.25, HARM_MULTIPLES).any()


def test_ville_holds_at_the_margin_with_a_moving_base_rate() -> None:
    rng = np.random.default_rng(11)
    runs, crossed = 400, 0
    for _ in range(runs):
        ln_l = np.zeros(len(HARM_MULTIPLES))
        peak = 0.0
        for bucket in range(60):
            p = 0.02 + 0.1 * (bucket % 10 == 3)
            n_first = int(rng.integers(1, 60))
            first = Count(int(rng.binomial(n_first, 1.25 * p)), n_first)
            ln_l += ratio_step(first, Count(int(rng.binomial(100, p)), 100), 1.25, HARM_MULTIPLES)
            peak = max(peak, mixture(ln_l.tolist()))
        crossed += peak >= 20
    # P(sup E >= 20) <= .05; 400 draws of a .05 coin exceed 34 once in a thousand.
    assert crossed <= 34


def test_against_a_bound_is_the_mixture_of_likelihood_ratios() -> None:
    count, bound, alternatives = Count(3, 40), 0.02, (0.05, 0.1)
    ratios = [
        stats.binom.pmf(count.events, count.trials, q) / stats.binom.pmf(count.events, count.trials, bound)
        for q in alternatives
    ]
    assert against_bound(count, bound, alternatives) == pytest.approx(np.mean(ratios), rel=1e-9)


@pytest.mark.parametrize(
    ("p", "alternatives"), [(0.03, (0.06, 0.2, 0.9)), (0.015, (0.06, 0.2)), (0.2, (0.001, 0.01))]
)
def test_against_a_bound_gains_nothing_on_the_right_side_of_it(
    p: float, alternatives: tuple[float, ...]
) -> None:
    n, bound = 15, 0.03 if alternatives[0] > 0.03 else 0.1
    expected = sum(
        float(stats.binom.pmf(k, n, p)) * against_bound(Count(k, n), bound, alternatives)
        for k in range(n + 1)
    )
    assert expected <= 1 + 1e-12


def test_odds() -> None:
    assert at_odds(0.5, 3) == pytest.approx(0.75)
    assert at_odds(0.01, 2) == pytest.approx(0.0198, rel=1e-3)
    assert 0 < at_odds(1 - 1e-6, 50) < 1


def test_evidence_is_capped_and_never_overflows() -> None:
    assert evidence(0.0) == 1.0
    assert evidence(1e9) == LARGEST_EVIDENCE
    assert evidence(-1e9) == 0.0
    assert mixture([1e9, -1e9]) == LARGEST_EVIDENCE
    assert mixture([0.0, math.log(3)]) == pytest.approx(2.0)

"""The mean test against integration, its coverage, and what it must not be fooled by."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from domain.gate.counts import evidence
from domain.gate.means import HARM_RHO, ArmSums, Excess, Moments, PairSums


def _pair(*buckets: tuple[np.ndarray, np.ndarray]) -> PairSums:
    pair = PairSums()
    for control, canary in buckets:
        pair = pair.add(Moments.of(control), Moments.of(canary))
    return pair


@pytest.mark.parametrize(("z", "v"), [(0.0, 10.0), (12.0, 30.0), (-8.0, 30.0), (45.0, 400.0)])
@pytest.mark.parametrize("rho", [20.0, 43.0])
def test_evidence_is_the_half_normal_mixture(z: float, v: float, rho: float) -> None:
    def integrand(drift: float) -> float:
        prior = 2 * stats.norm.pdf(drift, scale=1 / math.sqrt(rho))
        return float(prior * math.exp(drift * z - drift * drift * v / 2))

    expected, _ = integrate.quad(integrand, 0, 10, points=[max(z, 0) / (v + rho)], limit=200)
    # With a variance of 4 per unit of v, the total is twice z.
    excess = Excess(total=2 * z, v=v, variance=4 * v)
    assert math.exp(excess.ln_evidence(rho)) == pytest.approx(expected, rel=1e-6)


def test_sums_of_one_bucket_by_hand() -> None:
    control, canary = np.array([1.0, 3.0, 5.0]), np.array([4.0, 8.0])
    pair = _pair((control, canary))
    w = 2 * 3 / 5
    excess = pair.excess(1.1, 0.5, doubt=1.0)
    assert excess.total == pytest.approx(w * (6 - 1.1 * 3 - 0.5))
    assert excess.v == pytest.approx(w * w / 2 + 1.21 * w * w / 3)
    # Too few degrees of freedom within buckets: the overall variance, with one imagined value.
    s_control, s_canary = (8 + 1) / 3, (8 + 1) / 2
    assert excess.variance == pytest.approx(s_canary * w * w / 2 + 1.21 * s_control * w * w / 3)


def test_moments_over_buckets_equal_those_of_all_values() -> None:
    rng = np.random.default_rng(1)
    buckets = [rng.normal(3, 2, size) for size in (1, 5, 40, 7)]
    arm = ArmSums()
    for bucket in buckets:
        arm = arm.add(Moments.of(bucket))
    everything = np.concatenate(buckets)
    assert arm.mean == pytest.approx(everything.mean())
    assert arm.ss == pytest.approx(everything.size * everything.var())
    assert arm.within_ss == pytest.approx(sum(bucket.size * bucket.var() for bucket in buckets))
    assert arm.within_df == everything.size - len(buckets)


def test_zeros_and_ones_are_values_like_others() -> None:
    assert Moments.of_count(2, 8) == pytest.approx(Moments.of([1, 1, 0, 0, 0, 0, 0, 0]))


def test_the_variance_is_that_within_buckets() -> None:
    rng = np.random.default_rng(2)
    pair = _pair(*((rng.normal(level, 1, 50), rng.normal(level, 1, 50)) for level in (0, 100, 300)))
    assert pair.canary.variance_within(doubt=0.0) == pytest.approx(1, abs=0.3)
    assert pair.canary.variance(doubt=0.0) > 1000


def test_one_value_a_bucket_still_has_a_variance() -> None:
    rng = np.random.default_rng(3)
    pair = _pair(*((rng.normal(0, 3, 1), rng.normal(0, 3, 1)) for _ in range(200)))
    assert pair.canary.variance_within(doubt=0.0) == pytest.approx(9, rel=0.3)


def test_constant_scores_are_not_certain_at_once() -> None:
    def proof(n: int) -> float:
        perfect = np.full(n, 100.0)
        return evidence(_pair((perfect, perfect)).excess(1.0, -5.0, doubt=50.0).ln_evidence(43.0))

    # Where 5 % fail, 30 scores in a row are perfect once in five times, and 100 once in 170.
    assert proof(30) < 10 < proof(100)


def test_ville_holds_for_skewed_values_at_any_look() -> None:
    rng = np.random.default_rng(4)
    runs, crossed = 300, 0
    for _ in range(runs):
        pair, peak = PairSums(), 0.0
        for _ in range(60):
            pair = pair.add(Moments.of(rng.lognormal(0, 1, 100)), Moments.of(rng.lognormal(0, 1, 15) * 1.05))
            if pair.smaller >= 50:
                peak = max(peak, evidence(pair.excess(1.05, 0.0, 1.5).ln_evidence(HARM_RHO)))
        crossed += peak >= 20
    assert crossed <= 27


def test_the_interval_covers_the_difference_at_all_looks() -> None:
    rng = np.random.default_rng(5)
    runs, missed = 300, 0
    for _ in range(runs):
        pair, outside = PairSums(), False
        for _ in range(60):
            pair = pair.add(Moments.of(rng.normal(10, 4, 50)), Moments.of(rng.normal(12, 2, 20)))
            excess = pair.excess(1.0, 0.0, doubt=0.0)
            outside |= abs(excess.total - 2 * pair.weight) > excess.radius(0.05)
        missed += outside
    assert missed <= 27


def test_the_interval_narrows() -> None:
    rng = np.random.default_rng(6)
    few = _pair(*((rng.normal(0, 1, 50), rng.normal(0, 1, 50)) for _ in range(2)))
    many = _pair(*((rng.normal(0, 1, 50), rng.normal(0, 1, 50)) for _ in range(200)))
    assert many.excess(1, 0, 0).radius(0.05) / many.weight < few.excess(1, 0, 0).radius(0.05) / few.weight / 4


def test_a_rise_that_both_arms_share_is_no_difference() -> None:
    # Simpson: most of the canary's values come from the bad time, most of control's from the good one.
    rng = np.random.default_rng(7)
    good = (rng.normal(10, 1, 950), rng.normal(10, 1, 50))
    bad = (rng.normal(20, 1, 500), rng.normal(20, 1, 500))
    pair = _pair(good, bad)
    assert pair.canary.mean - pair.control.mean > 5
    assert pair.canary_mean - pair.control_mean == pytest.approx(0, abs=0.3)
    assert evidence(pair.excess(1.05, 0, 10).ln_evidence(HARM_RHO)) < 1


def test_nothing_seen_is_no_evidence_and_no_interval() -> None:
    excess = PairSums().excess(1.05, 0, 0)
    assert excess.ln_evidence(HARM_RHO) == 0
    assert excess.radius(0.05) == math.inf
    assert _pair((np.zeros(5), np.zeros(5))).excess(1.05, 0, 0).ln_evidence(HARM_RHO) == 0

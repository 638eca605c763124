"""The sample-ratio test against the beta-binomial, on heavy callers, and on broken routing."""

import numpy as np
import pytest
from scipy import stats

from domain.gate.split import SplitState

ALARM = 1000.0


def _fired(weights: np.ndarray, share: float, rng: np.random.Generator) -> bool:
    """Whether a step of 6,000 requests raised the alarm; each unit's requests go to the unit's arm."""
    rate = float(weights[rng.random(weights.size) < share / 100].sum())
    state = SplitState()
    for _ in range(10):
        canary = int(rng.binomial(600, min(rate, 1.0)))
        state = state.add(share, 600 - canary, canary)
        if state.mismatch(100) >= ALARM:
            return True
    return False


def test_the_evidence_is_the_bayes_factor_of_two_beta_binomials() -> None:
    state = SplitState().add(25.0, 300, 160)
    expected = stats.betabinom.pmf(160, 460, 1, 1) / stats.betabinom.pmf(160, 460, 25, 75)
    assert state.mismatch(100) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("share", [5.0, 25.0, 50.0, 95.0])
def test_a_few_heavy_callers_are_no_broken_routing(share: float) -> None:
    rng = np.random.default_rng(1)
    zipf = 1 / np.arange(1.0, 10_001)
    fired = sum(_fired(zipf / zipf.sum(), share, rng) for _ in range(300))
    assert fired <= 6


@pytest.mark.parametrize("share", [5.0, 25.0, 50.0, 95.0])
def test_single_draws_never_fire(share: float) -> None:
    rng = np.random.default_rng(2)
    assert not any(_fired(np.full(20_000, 1 / 20_000), share, rng) for _ in range(100))


@pytest.mark.parametrize(("share", "actual"), [(5, 0.25), (5, 0.0), (25, 0.05), (50, 0.25), (95, 0.5)])
def test_broken_routing_fires(share: float, actual: float) -> None:
    rng = np.random.default_rng(3)
    state = SplitState()
    for _ in range(10):
        canary = int(rng.binomial(600, actual))
        state = state.add(share, 600 - canary, canary)
    assert state.mismatch(100) >= ALARM
    assert state.observed == pytest.approx(100 * actual, abs=3)


def test_a_new_share_starts_over() -> None:
    state = SplitState().add(5.0, 100, 500).add(50.0, 100, 100)
    assert (state.control, state.canary) == (100, 100)
    assert state.mismatch(100) < 1


@pytest.mark.parametrize("share", [0.0, 100.0])
def test_without_a_split_there_is_nothing_to_test(share: float) -> None:
    assert SplitState().add(share, 500, 500).mismatch(100) == 1.0

"""Slow requests, counted against control's own past."""

import numpy as np
import pytest

from domain.gate.counts import Count, mixture, ratio_step
from domain.gate.settings import GuardrailSettings
from domain.gate.tail import MULTIPLES, QUANTILES, RESERVOIR, TailState

SETTINGS = GuardrailSettings(tolerance=0.10, critical=0.5, weight=0.2)
NOBODY = np.array([])


def test_the_first_hundred_latencies_only_set_the_thresholds() -> None:
    slow = np.full(50, 9000.0)
    state = TailState().add(np.full(99, 100.0), slow, SETTINGS, seed=1)
    assert not any(state.harm)
    state = state.add(np.full(99, 100.0), slow, SETTINGS, seed=2)
    assert not any(state.harm)
    state = state.add(np.full(99, 100.0), slow, SETTINGS, seed=3)
    assert mixture(state.harm) > 1000


def test_counts_are_those_above_the_earlier_quantiles_and_margins() -> None:
    earlier = np.arange(1.0, 901.0)
    control = np.array([100.0, 811.0, 899.0, 905.0])
    canary = np.array([880.0, 1000.0, 1400.0])
    state = TailState().add(earlier, NOBODY, SETTINGS, seed=1).add(control, canary, SETTINGS, seed=2)
    thresholds = np.quantile(earlier, QUANTILES)
    expected_harm: list[float] = []
    expected_proof: list[float] = []
    for threshold in thresholds:
        slow = Count(int((control > threshold).sum()), 4)
        harm = Count(int((canary > 1.1 * threshold).sum()), 3)
        critical = Count(int((canary > 1.5 * threshold).sum()), 3)
        expected_harm.extend(ratio_step(harm, slow, 1.0, MULTIPLES))
        expected_proof.extend(ratio_step(slow, critical, 1.0, MULTIPLES))
    assert state.harm == pytest.approx(expected_harm)
    assert state.proof == pytest.approx(expected_proof)


def test_the_reservoir_holds_the_last_thousand_in_three_digits() -> None:
    state = TailState()
    for number in range(5):
        state = state.add(np.full(300, 12_345.6 + 1000 * number), NOBODY, SETTINGS, seed=number)
    assert len(state.recent) == RESERVOIR
    assert state.recent[0] == 13_300
    assert state.recent[-1] == 16_300
    assert state.recent.count(13_300) == 100


def test_sorted_latencies_leave_a_fair_sample_behind() -> None:
    rng = np.random.default_rng(1)
    latencies = np.sort(rng.lognormal(6, 0.8, 5000))
    state = TailState().add(latencies, NOBODY, SETTINGS, seed=7)
    assert np.median(state.recent) == pytest.approx(np.median(latencies), rel=0.1)
    state = state.add(np.sort(rng.lognormal(6, 0.8, 500)), NOBODY, SETTINGS, seed=8)
    assert np.median(state.recent) == pytest.approx(np.median(latencies), rel=0.1)


def test_ville_holds_where_the_canary_is_as_slow_as_the_margin_allows() -> None:
    rng = np.random.default_rng(2)
    runs, crossed = 100, 0
    for _ in range(runs):
        state, peak = TailState(), 0.0
        for number in range(40):
            level = 500 * (3 if number % 7 == 5 else 1)
            control, canary = level * rng.lognormal(0, 0.8, 300), 1.1 * level * rng.lognormal(0, 0.8, 60)
            state = state.add(control, canary, SETTINGS, seed=number)
            peak = max(peak, mixture(state.harm))
        crossed += peak >= 20
    assert crossed <= 12


def test_above_a_ceiling() -> None:
    settings = SETTINGS.model_copy(update={"bound": 1000.0})
    state = TailState().add(NOBODY, np.array([900.0, 1000.0, 1200.0, 1600.0]), settings, seed=1)
    assert (state.n, state.over, state.over_worse) == (4, 2, 1)
    assert state.alone.weights
    assert not TailState().add(NOBODY, np.array([900.0]), SETTINGS, seed=1).alone.weights


def test_both_arms_are_sketched_with_one_mix_of_times() -> None:
    state = TailState().add(np.full(90, 100.0), np.full(10, 100.0), SETTINGS, seed=1)
    state = state.add(np.full(50, 1000.0), np.full(50, 1000.0), SETTINGS, seed=2)
    assert state.canary == state.control
    assert sum(state.canary.weights) == pytest.approx(9 + 25)
    # A bucket of one arm alone compares nothing.
    assert state.add(np.full(50, 5.0), NOBODY, SETTINGS, seed=3).control == state.control

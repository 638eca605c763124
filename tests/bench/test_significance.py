"""The significance benchmark, few runs with one seed; `python -m bench.significance` runs it in full."""

import numpy as np
import pytest

from bench.noise import Base, ar1, world
from bench.significance import ARMS, OWN, PLAIN, Setting, gate_rates, gates, rates, settings

RUNS = 100
# 100 runs of a test that errs in 5 % of them have more than 12 by chance once in 700 times.
CHANCE = 0.12


@pytest.mark.parametrize("setting", [Setting(0.0, False), Setting(0.8, True)], ids=Setting.in_words)
def test_own_tests_find_nothing_where_nothing_is(setting: Setting) -> None:
    found = rates(setting, RUNS, 7, Base())
    assert max(found[name] for name in OWN) <= CHANCE
    if setting.rho:
        assert min(found[name] for name in PLAIN) > 2 * CHANCE


def test_what_is_there_is_found() -> None:
    assert min(rates(Setting(0.6, True, shift=2), 20, 7, Base())[name] for name in OWN[:-1]) >= 0.9
    assert rates(Setting(0.6, True, n=120, rise=5), 20, 7, Base())["trend"] >= 0.9


def test_the_gate_is_not_fooled_by_what_both_arms_share() -> None:
    found = gate_rates(0.8, 30, 7, Base())
    assert max(found[name] for name in ARMS[:2]) <= 0.05
    assert max(found[name] for name in ARMS[2:]) >= 0.2


def test_noise_is_ar1_of_variance_1() -> None:
    noise = ar1(np.random.default_rng(1), 200_000, 0.8)
    assert noise.var() == pytest.approx(1, abs=0.03)
    assert noise[:-1] @ noise[1:] / (noise @ noise) == pytest.approx(0.8, abs=0.01)
    starts = [ar1(np.random.default_rng([2, run]), 1, 0.9)[0] for run in range(3000)]
    assert np.var(starts) == pytest.approx(1, abs=0.1)


def test_worlds_have_the_effect_in_the_present_only() -> None:
    base = Base(level=10, sd=1e-9, amplitude=0)
    given = world(np.random.default_rng(1), n=60, rho=0.5, days=4, base=base, shift=2e9, rise=1e9)
    assert (len(given.now), len(given.before), len(given.day_before)) == (60, 60, 288)
    assert given.day_before.times[-1] == given.before.times[-1] < given.now.times[0]
    assert given.before.values == pytest.approx(10)
    assert given.now.values[[0, -1]] == pytest.approx([12, 13])
    assert given.same_hours == pytest.approx([10] * 4)


def test_gates_go_by_the_worst_of_the_gated() -> None:
    false = {setting: dict.fromkeys(OWN, setting.rho / 10) for setting in settings()[0]}
    times = dict.fromkeys((*OWN, "judged", "profile"), 0.1)
    shared = {0.0: dict.fromkeys(ARMS, 0.01), 0.9: dict.fromkeys(ARMS, 0.02)}
    found = [gate.to_json() for gate in gates(false, shared, times)]
    assert all(gate["met"] for gate in found)
    assert {gate["figure"] for gate in found[: len(OWN)]} == {0.08}
    worse = {setting: dict.fromkeys(OWN, 0.09) for setting in false}
    missed = gates(worse, {0.0: dict.fromkeys(ARMS, 0.06)}, dict.fromkeys(times, 1.1))
    assert not any(gate.keeps(gate.bound) for gate in missed)

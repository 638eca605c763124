"""What the gate's sums say of effects and their errors: by hand, against theory, and over simulations."""

from math import exp, log, sqrt

import numpy as np
import pytest
from scipy import stats

from domain.gate.bucket import ArmBucket, Bucket
from domain.gate.settings import GateSettings
from domain.gate.state import GateState, observe
from domain.ledger.measurement import Measurement, improvement, measure

SETTINGS = GateSettings()


def arm(latency: np.ndarray, cost: np.ndarray, quality: np.ndarray, errors: int = 0) -> ArmBucket:
    return ArmBucket(
        n=max(latency.size, cost.size) + errors,
        errors=errors,
        latency_ms=latency.tolist(),
        cost_usd=cost.tolist(),
        quality=np.clip(quality, 0, 100).tolist(),
    )


def seen(*buckets: tuple[ArmBucket, ArmBucket], settings: GateSettings = SETTINGS) -> GateState:
    state = GateState()
    for number, (control, canary) in enumerate(buckets):
        state = observe(state, Bucket(id=number, share=50.0, control=control, canary=canary), settings)
    return state


def simulated(
    rng: np.random.Generator, buckets: int = 8, control: int = 150, canary: int = 50, drift: float = 0.0
) -> dict[str, Measurement]:
    """Arms that differ by nothing in latency, 20 % in cost, 2 points in quality; both drift alike."""
    rows = []
    for number in range(buckets):
        level = exp(drift * number)
        arms = []
        for n, cheaper, better in ((control, 1.0, 0.0), (canary, 0.8, 2.0)):
            latency = level * rng.lognormal(6.0, 0.6, n)
            cost = level * cheaper * rng.gamma(4.0, 0.001, n)
            arms.append(arm(latency, cost, rng.normal(60.0 + better, 8.0, n), int(rng.binomial(n, 0.02))))
        rows.append((arms[0], arms[1]))
    return measure(seen(*rows))


def test_one_bucket_by_the_delta_method() -> None:
    rng = np.random.default_rng(1)
    control, canary = rng.gamma(4.0, 0.001, 400), rng.gamma(4.0, 0.0008, 100)
    nothing = np.array([])
    found = measure(seen((arm(nothing, control, nothing), arm(nothing, canary, nothing))))["cost.avg"]
    assert (found.control, found.canary) == pytest.approx((control.mean(), canary.mean()))
    assert found.difference == pytest.approx(canary.mean() - control.mean())
    assert found.effect == pytest.approx(log(canary.mean() / control.mean()))
    by_hand = sqrt((stats.sem(control) / control.mean()) ** 2 + (stats.sem(canary) / canary.mean()) ** 2)
    # The gate imagines one value more in each arm, a mean away.
    assert found.se == pytest.approx(by_hand, rel=0.03)
    assert found.samples.canary == 100


def test_of_scores_and_errors_it_is_the_difference() -> None:
    rng = np.random.default_rng(2)
    nothing = np.array([])
    control, canary = rng.normal(60, 8, 300), rng.normal(64, 8, 200)
    found = measure(seen((arm(nothing, nothing, control, 300), arm(nothing, nothing, canary, 200))))
    quality = found["quality.avg"]
    assert quality.effect == quality.difference == pytest.approx(canary.mean() - control.mean())
    assert quality.se == pytest.approx(sqrt(stats.sem(control) ** 2 + stats.sem(canary) ** 2), rel=0.1)
    errors = found["errors.rate"]
    assert (errors.control, errors.canary, errors.effect) == (1.0, 1.0, 0.0)


def test_the_tails_error_is_that_of_a_quantile_in_theory() -> None:
    """Of an exponential distribution: sqrt(p (1-p) / n) over the density at the quantile, and over it."""
    n, p = 4_000, 0.95
    rng = np.random.default_rng(3)
    nothing = np.array([])
    arms = [arm(1000 * rng.exponential(size=n) + 1, nothing, nothing) for _ in range(2)]
    found = measure(seen((arms[0], arms[1])))["latency.p95"]
    of_one = sqrt(p * (1 - p) / n) / ((1 - p) * -log(1 - p))
    assert found.se == pytest.approx(sqrt(2) * of_one, rel=0.15)
    assert found.se_anytime is not None
    assert found.se is not None
    assert 1.2 * found.se < found.se_anytime < 2.5 * found.se


@pytest.mark.parametrize("drift", [0.0, 0.15])
def test_errors_of_measurements_are_as_large_as_they_say_whatever_both_arms_drift(drift: float) -> None:
    rng = np.random.default_rng(4)
    truth = {"cost.avg": log(0.8), "latency.avg": 0.0, "latency.p95": 0.0, "quality.avg": 2.0}
    standardised: dict[str, list[float]] = {metric: [] for metric in truth}
    for _ in range(100):
        found = simulated(rng, drift=drift)
        for metric, effect in truth.items():
            one = found[metric]
            assert one.effect is not None
            assert one.se is not None
            standardised[metric].append((one.effect - effect) / one.se)
    for metric, values in standardised.items():
        assert np.mean(values) == pytest.approx(0.0, abs=0.3), metric
        # The standard deviation of 100 values is within 20 % of its own, and the gate's variances are a
        # little on the safe side.
        assert 0.75 < np.std(values) < 1.2, metric


def test_what_one_arm_lacks_or_has_too_little_of_is_not_measured() -> None:
    nothing = np.array([])
    few = np.full(10, 40.0)
    found = measure(seen((arm(few, few, few), arm(few, nothing, few))))
    assert "cost.avg" not in found
    assert found["latency.avg"].difference == 0.0
    assert (found["latency.avg"].effect, found["latency.avg"].low) == (None, None)
    assert (found["latency.p95"].effect, found["quality.avg"].effect) == (None, None)
    assert measure(GateState()) == {}


def test_what_is_free_in_an_arm_has_no_ratio() -> None:
    nothing, free, paid = np.array([]), np.zeros(100), np.full(100, 0.01)
    found = measure(seen((arm(nothing, paid, nothing), arm(nothing, free, nothing))))["cost.avg"]
    assert (found.canary, found.effect) == (0.0, None)
    assert found.difference == pytest.approx(-0.01)


def test_a_guardrail_that_is_switched_off_is_measured_all_the_same() -> None:
    off = SETTINGS.model_copy(update={"cost": SETTINGS.cost.model_copy(update={"enabled": False})})
    values = np.full(60, 0.01)
    nothing = np.array([])
    state = seen((arm(nothing, values, nothing), arm(nothing, values, nothing)), settings=off)
    assert measure(state)["cost.avg"].effect == pytest.approx(0.0)


def test_improvements_are_fractions_of_control_and_positive_where_better() -> None:
    assert improvement("cost.avg", 0.01, -0.004) == pytest.approx(0.4)
    assert improvement("quality.avg", 80.0, -8.0) == pytest.approx(-0.1)
    assert improvement("errors.rate", 0.0, 0.01) is None

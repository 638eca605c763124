"""What came of a proposal, against figures worked out by hand."""

from math import log, sqrt
from typing import Any

import pytest
from scipy.stats import norm

from domain.backtest.outcome import Pair, judge, pairs_between, pairs_of
from domain.backtest.report import Outcome
from domain.decision.history import MetricEstimate, Observation
from domain.decision.problem import DecisionProblem
from domain.deployment import GuardrailReading, Samples
from domain.plan import OptimizationPlan, Prediction
from domain.policy import Constraint, Objective
from tests.storage.records import config

OLD, NEW = config(), config("gpt-4o-mini")
COST = Objective(metric="cost.avg", goal="minimize", weight=1)
QUALITY = Objective(metric="quality.avg", goal="maximize", weight=1)


def problem(*constraints: Constraint, objectives: tuple[Objective, ...] = (COST, QUALITY)) -> DecisionProblem:
    return DecisionProblem(
        service="chat", incumbent=OLD, objectives=list(objectives), constraints=list(constraints), now=0
    )


def plan(**predicted: tuple[float, float, float]) -> OptimizationPlan:
    predictions = {
        name.replace("_", "."): Prediction(low=low, mean=mean, high=high, samples=0)
        for name, (low, mean, high) in predicted.items()
    }
    return OptimizationPlan(
        service="chat",
        recommended_config=NEW,
        expected_improvement={},
        predictions=predictions,
        confidence=0.8,
        rationale="",
        alternatives=[],
        source="model",
    )


def seen(n: int = 100, **metrics: tuple[float, float]) -> Observation:
    estimates = {name.replace("_", "."): MetricEstimate(mean=m, se=se) for name, (m, se) in metrics.items()}
    return Observation(config=OLD, n=n, metrics=estimates)


PRESENT = seen(cost_avg=(0.01, 0.0001), quality_avg=(80.0, 1.0))


def told(pairs: dict[str, Pair], *constraints: Constraint, **given: Any) -> Outcome:
    fields: dict[str, Any] = {"present": PRESENT, "served": None} | given
    return judge(problem(*constraints), fields.pop("plan", plan()), pairs=pairs, **fields)


def test_better_is_the_probability_of_a_gain_in_utility() -> None:
    """Half the weight each: -0.5 d ln cost + 2.5 d quality, as the decision weighs them."""
    pairs = {"cost.avg": Pair(0.01, 0.0095, 0.04), "quality.avg": Pair(80.0, 79.0, 0.01)}
    gain = -0.5 * log(0.95) - 5 * 0.5 * 0.01
    sd = sqrt((0.5 * 0.04) ** 2 + (5 * 0.5 * 0.01) ** 2)
    outcome = told(pairs)
    assert outcome.better == pytest.approx(norm.cdf(gain / sd))
    assert outcome.verdict == "undecided"
    assert told(pairs | {"quality.avg": Pair(80.0, 90.0, 0.01)}).verdict == "better"
    assert told(pairs | {"quality.avg": Pair(80.0, 70.0, 0.01)}).verdict == "worse"


def test_what_was_not_measured_is_named_and_not_weighed() -> None:
    outcome = told({"cost.avg": Pair(0.01, 0.005, 0.04), "quality.avg": Pair(80.0, 10.0, None)})
    assert (outcome.verdict, outcome.not_measured) == ("better", ["quality.avg"])
    nothing = told({})
    assert (nothing.verdict, nothing.better) == ("unknown", None)
    assert nothing.not_measured == ["cost.avg", "quality.avg"]


@pytest.mark.parametrize(
    ("proposed", "error", "interval"),
    [
        (0.005, 0.0, "held"),
        (0.0061, 0.0, "missed"),
        (0.0039, 0.0, "missed"),
        (0.0061, 0.1, "held"),
        (0.0061, None, "unknown"),
    ],
)
def test_an_interval_holds_a_change_within_its_own_error_and_the_measurement_s(
    proposed: float, error: float | None, interval: str
) -> None:
    """Predicted is half the cost, give or take 0.18 of its logarithm."""
    predicted = plan(cost_avg=(0.005 * 0.835, 0.005, 0.005 * 1.197))
    (compared,) = told({"cost.avg": Pair(0.01, proposed, error)}, plan=predicted).metrics
    assert compared.interval == interval
    assert compared.change == pytest.approx((0.01 - proposed) / 0.01)
    assert compared.predicted_change == pytest.approx(0.5)


def test_what_moved_both_alike_is_no_fault_of_the_prediction() -> None:
    predicted = plan(cost_avg=(0.0045, 0.005, 0.0055))
    (compared,) = told({"cost.avg": Pair(0.02, 0.01, 0.01)}, plan=predicted).metrics
    assert compared.interval == "held"


def test_hard_constraints_are_held_against_what_was_served() -> None:
    floor = Constraint(id="floor", type="hard", metric="quality.avg", min=70)
    slow = Constraint(id="slow", type="hard", metric="latency.p95", max=500)
    soft = Constraint(id="soft", type="soft", metric="cost.avg", max=0)
    pairs = {"cost.avg": Pair(0.01, 0.001, 0.01)}
    breached = told(pairs, floor, slow, soft, served=seen(quality_avg=(60.0, 1.0)))
    assert [(kept.constraint, kept.value, kept.standing) for kept in breached.constraints] == [
        ("floor", 60.0, "breached"),
        ("slow", None, "unknown"),
    ]
    assert breached.verdict == "worse"
    # Past it, but within what chance could do.
    near = told(pairs, floor, served=seen(quality_avg=(69.0, 1.0)))
    assert (near.constraints[0].standing, near.verdict) == ("breached", "better")
    assert told(pairs, floor, served=seen(quality_avg=(75.0, 1.0))).constraints[0].standing == "kept"


def test_pairs_come_from_both_arms_of_the_last_look() -> None:
    samples = Samples(control=100, canary=100)
    both = GuardrailReading(
        metric="cost.avg",
        control=0.01,
        canary=0.008,
        difference=-0.002,
        low=-0.00396,
        high=-0.00004,
        evidence=1.0,
        samples=samples,
    )
    alone = GuardrailReading(metric="quality.avg", canary=80.0, evidence=1.0, samples=samples)
    point = both.model_copy(update={"metric": "latency.p95", "low": None})
    pairs = pairs_of([both, alone, point])
    cost = pairs["cost.avg"]
    assert cost == Pair(0.01, 0.008, cost.error)
    assert cost.error == pytest.approx(0.001 / 0.008)
    assert pairs["latency.p95"].error is None
    assert "quality.avg" not in pairs


def test_pairs_of_two_times_have_the_errors_of_both() -> None:
    pairs = pairs_between(PRESENT, seen(cost_avg=(0.02, 0.002), latency_p95=(100.0, 1.0)))
    assert set(pairs) == {"cost.avg"}
    # The incumbent's own error is below the least that is credited, 3 %.
    assert pairs["cost.avg"].error == pytest.approx(sqrt(0.03**2 + 0.1**2))

"""Whether a plan came true, by the weights and bounds that it was chosen by."""

from math import log, sqrt
from typing import Any

import pytest

from domain.deployment import Samples
from domain.ledger.measurement import Measurement
from domain.ledger.utility import Utility, measured_utility
from domain.policy import ServicePolicy


def measurement(control: float, canary: float, effect: float | None, se: float = 0.0) -> Measurement:
    return Measurement(
        control=control,
        canary=canary,
        difference=canary - control,
        effect=effect,
        se=None if effect is None else se,
        se_anytime=None if effect is None else se,
        samples=Samples(control=100, canary=100),
    )


HALF_THE_COST = measurement(0.02, 0.01, log(0.5), se=0.1)
WORSE = measurement(85.0, 75.0, -10.0, se=2.0)
SLOWER = measurement(400.0, 440.0, log(1.1))
MEASURED = {"cost.avg": HALF_THE_COST, "quality.avg": WORSE, "latency.p95": SLOWER}


def utility(measured: dict[str, Measurement] | None = None, **policy: Any) -> Utility | None:
    given = {"service": "chat"} | policy
    return measured_utility(ServicePolicy.model_validate(given), measured or MEASURED)


def objectives(**weights: float) -> list[dict[str, Any]]:
    return [
        {"metric": name, "goal": "maximize" if name == "quality" else "minimize", "weight": weight}
        for name, weight in weights.items()
    ]


def test_utility_is_weighed_on_the_scale_of_the_decision() -> None:
    found = utility(objectives=objectives(cost=3.0, quality=1.0))
    assert found is not None
    # ln of the cost ratio, and five times the quality in 0..1.
    assert found.value == pytest.approx(0.75 * log(2) - 0.25 * 5 * 0.1)
    assert found.se == pytest.approx(sqrt((0.75 * 0.1) ** 2 + (0.25 * 5 * 0.02) ** 2))
    assert found.came_true
    lost = utility(objectives=objectives(cost=1.0, quality=3.0))
    assert lost is not None
    assert lost.value == pytest.approx(0.25 * log(2) - 0.75 * 5 * 0.1)
    assert not lost.came_true


def test_a_total_is_weighed_per_request() -> None:
    totals = utility(objectives=[{"metric": "cost.total", "goal": "minimize", "weight": 1.0}])
    assert totals == utility(objectives=objectives(cost=1.0))


@pytest.mark.parametrize(
    ("minimum", "came_true"),
    [(70.0, True), (80.0, False), (90.0, False)],
    ids=["kept", "broken", "never kept"],
)
def test_a_plan_that_breaks_a_hard_bound_has_not_come_true(minimum: float, came_true: bool) -> None:
    bound = [{"type": "hard", "metric": "quality", "min": minimum}]
    found = utility(objectives=objectives(cost=1.0), constraints=bound)
    assert found is not None
    assert found.came_true is came_true
    soft = [{"type": "soft", "metric": "quality", "min": minimum}]
    preferred = utility(objectives=objectives(cost=1.0), constraints=soft)
    assert preferred is not None
    assert preferred.came_true


def test_of_an_incumbent_that_breaks_a_bound_what_keeps_it_is_better_even_if_dearer() -> None:
    dearer = {"cost.avg": measurement(0.01, 0.02, log(2)), "quality.avg": measurement(70.0, 85.0, 15.0)}
    goal = objectives(cost=1.0)
    unbound = utility(dearer, objectives=goal)
    bound = utility(dearer, objectives=goal, constraints=[{"type": "hard", "metric": "quality", "min": 80.0}])
    assert unbound is not None
    assert bound is not None
    assert (unbound.came_true, bound.came_true) == (False, True)


def test_in_pareto_mode_no_objective_may_be_traded() -> None:
    goals = objectives(cost=3.0, quality=1.0)
    weighted, pareto = utility(objectives=goals), utility(objectives=goals, mode="pareto")
    assert weighted is not None
    assert pareto is not None
    assert (weighted.came_true, pareto.came_true) == (True, False)
    hardly = MEASURED | {"quality.avg": measurement(85.0, 84.5, -0.5)}
    kept = utility(hardly, objectives=goals, mode="pareto")
    assert kept is not None
    assert kept.came_true


def test_without_every_objective_there_is_nothing_to_say() -> None:
    assert utility({"cost.avg": HALF_THE_COST}, objectives=objectives(cost=1.0, quality=1.0)) is None
    few = MEASURED | {"cost.avg": measurement(0.02, 0.01, None)}
    assert utility(few, objectives=objectives(cost=1.0)) is None
    foreign = [{"metric": "requests.rate", "goal": "maximize", "weight": 1.0}]
    assert utility(objectives=foreign) is None

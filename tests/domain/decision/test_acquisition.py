"""Expected improvement, odds and the front against numeric integration and brute force."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from domain.decision.acquisition import (
    Appraisal,
    appraise,
    choose,
    expected_improvement,
    may_be_tried,
    non_dominated,
    objective_weights,
)
from domain.decision.bounds import Bound, metric_bounds, odds
from domain.decision.posterior import Array, Belief
from domain.decision.responses import RESPONSES
from domain.policy import Constraint, Objective


def belief(mean: list[float], sd: float = 0.1, incumbent: float = 0.0) -> Belief:
    means = np.array(mean)
    spread = np.full(means.size, sd)
    return Belief(means, spread, means - incumbent, spread, incumbent, 0.0)


def bound(**fields: object) -> Bound:
    constraint = Constraint.model_validate({"type": "hard"} | fields)
    return metric_bounds([constraint], [])[0]


@pytest.mark.parametrize(("mean", "sd", "best"), [(0.3, 0.2, 0.0), (-1.0, 0.5, 0.0), (0.1, 2.0, 0.7)])
def test_expected_improvement_is_its_integral(mean: float, sd: float, best: float) -> None:
    integral, _ = quad(lambda x: (x - best) * norm.pdf(x, mean, sd), best, mean + 12 * sd)
    assert expected_improvement(np.array([mean]), np.array([sd]), best)[0] == pytest.approx(
        integral, abs=1e-9
    )


def test_expected_improvement_without_spread() -> None:
    assert expected_improvement(np.array([0.3, -0.3]), np.zeros(2), 0.0) == pytest.approx([0.3, 0.0])


def test_weights_are_normalised_and_signed() -> None:
    weights = objective_weights(
        [
            Objective(metric="cost", goal="minimize", weight=5),
            Objective(metric="latency", goal="minimize", weight=2),
            Objective(metric="quality", goal="maximize", weight=3),
        ]
    )
    assert weights == pytest.approx({"cost.avg": -0.5, "latency.p95": -0.2, "quality.avg": 5 * 0.3})


def test_utility_is_the_weighted_sum_with_exact_variance() -> None:
    beliefs = {"cost.avg": belief([-1.0, 0.0], 0.2), "quality.avg": belief([0.5, 0.9], 0.05, incumbent=0.8)}
    made = appraise(beliefs, {"cost.avg": -0.5, "quality.avg": 1.5}, [])
    assert made.gain == pytest.approx([0.5 - 0.45, 0.15])
    assert made.gain_sd == pytest.approx(np.hypot(0.5 * 0.2, 1.5 * 0.05))
    assert made.better == pytest.approx(norm.cdf(made.gain / made.gain_sd))
    assert made.feasibility == pytest.approx([1.0, 1.0])


def test_feasibility_is_the_product_of_the_odds() -> None:
    beliefs = {"quality.avg": belief([0.6], 0.1, incumbent=0.8), "errors.rate": belief([0.01], 0.01)}
    bounds = [bound(metric="quality", min=55), bound(metric="errors", max=0.02)]
    made = appraise(beliefs, {"quality.avg": 1.0}, bounds)
    assert made.feasibility[0] == pytest.approx(norm.cdf(0.5) * norm.cdf(1.0))
    assert made.by_bound[:, 0] == pytest.approx([norm.cdf(0.5), norm.cdf(1.0)])
    assert made.keeps.tolist() == [True]


def test_a_soft_constraint_costs_by_its_weight_and_odds() -> None:
    beliefs = {"quality.avg": belief([0.5], 0.1, incumbent=0.5)}
    soft = bound(type="soft", metric="quality", min=50, priority=3)
    made = appraise(beliefs, {"quality.avg": 1.0}, [soft])
    assert made.gain[0] == pytest.approx(-0.1 * 3 * 0.5)
    assert made.feasibility[0] == 1.0


def test_an_incumbent_in_breach_is_worth_leaving_at_a_loss() -> None:
    beliefs = {"cost.avg": belief([0.3], 0.05), "quality.avg": belief([0.9], 0.05, incumbent=0.5)}
    weights = {"cost.avg": -1.0}
    kept = appraise(beliefs, weights, [bound(metric="quality", min=40)])
    breached = appraise(beliefs, weights, [bound(metric="quality", min=70)])
    assert kept.better[0] < 0.01
    assert breached.better[0] > 0.99


def test_pareto_lets_no_objective_get_worse() -> None:
    beliefs = {"cost.avg": belief([-3.0, -0.1], 0.01), "quality.avg": belief([0.7, 0.8], 0.01, incumbent=0.8)}
    weights = {"cost.avg": -0.9, "quality.avg": 0.5}
    assert chosen(appraise(beliefs, weights, [])) == 0
    assert chosen(appraise(beliefs, weights, [], pareto=True)) == 1


def appraisal(ei: list[float], feasibility: list[float], keeps: list[bool] | None = None) -> Appraisal:
    zero, ones = np.zeros(len(ei)), np.ones(len(ei))
    kept = np.array(keeps or [True] * len(ei))
    return Appraisal(
        zero, zero, np.array(feasibility), zero, np.array(ei), kept, np.array([feasibility]), ones
    )


def chosen(made: Appraisal) -> int | None:
    """The choice among models that were all observed."""
    closeness = np.ones(len(made.gain))
    return choose(made, closeness, may_be_tried(made, ["a"] * len(made.gain), {"a": 3000}, closeness))


@pytest.mark.parametrize(
    ("ei", "feasibility", "best"),
    [
        ([0.1, 0.2], [1.0, 1.0], 1),
        ([0.3, 0.2], [0.31, 0.9], 1),
        ([9.0, 0.03], [0.16, 0.9], 0),
        ([9.0, 0.03], [0.14, 0.9], 1),
        ([9.0], [0.14], None),
        ([0.0039], [1.0], None),
        ([0.008], [0.4], None),
        ([0.0041], [1.0], 0),
    ],
)
def test_gates(ei: list[float], feasibility: list[float], best: int | None) -> None:
    assert chosen(appraisal(ei, feasibility)) == best


def test_what_breaks_a_bound_by_its_mean_is_chosen_by_odds_alone() -> None:
    made, known = appraisal([9.0, 0.1], [0.4, 0.9], [False, True]), {"a": 3000}
    assert chosen(made) == 0
    assert may_be_tried(made, ["a", "a"], known, np.ones(2), by_odds=False).tolist() == [False, True]
    assert chosen(appraisal([9.0, 0.1], [0.2, 0.9], [False, True])) == 1


def test_of_a_model_that_was_never_tried_one_candidate_is_tried_on_a_guess() -> None:
    models, closeness = ["known", "new", "new", "new", "late"], np.array([1.0, 0.3, 0.6, 0.9, 0.9])
    made = appraisal([1.0] * 5, [0.2, 0.3, 0.25, 0.1, 0.09], [False] * 5)
    # The nearest of those that are about as likely as any to keep the bound.
    known = {"known": 3000}
    assert may_be_tried(made, models, known, closeness).tolist() == [False, False, True, False, False]
    assert not may_be_tried(made, models, known, closeness, by_odds=False).any()
    measured = dict.fromkeys(models, 300)
    assert may_be_tried(made, models, measured, closeness).tolist() == [False, True, True, False, False]


def test_a_model_that_fell_short_once_is_tried_again_where_it_may_have_been_chance() -> None:
    models, closeness = ["known", "new", "new", "new"], np.ones(4)
    made = appraisal([1.0] * 4, [0.2, 0.3, 0.26, 0.24], [False] * 4)
    seen = {"known": 3000, "new": 300}
    assert may_be_tried(made, models, seen, closeness).tolist() == [False, True, True, False]
    assert not may_be_tried(made, models, seen, closeness, by_odds=False).any()


def test_among_equals_the_least_change() -> None:
    made = appraisal([1.0, 0.99, 0.97], [1.0, 1.0, 1.0])
    assert choose(made, np.array([0.2, 0.9, 1.0]), np.ones(3, dtype=bool)) == 1


rows = st.lists(st.lists(st.integers(0, 5), min_size=2, max_size=2), min_size=1, max_size=12)


@given(rows)
def test_the_front_is_what_brute_force_finds(points: list[list[int]]) -> None:
    gains: Array = np.array(points, dtype=np.float64)
    front = [not any(o[0] >= p[0] and o[1] >= p[1] and o != p for o in points) for p in points]
    assert non_dominated(gains).tolist() == front


@pytest.mark.parametrize("error", [0.001, 0.04, 1.0])
@pytest.mark.parametrize("best", [None, 0.05])
def test_a_canary_is_worth_what_its_measurement_will_be(error: float, best: float | None) -> None:
    """E[max(0, m + s²/(s² + e²) (y - m) - best)] over the measurement y, of variance s² + e²."""
    mean, sd = 0.1, 0.2
    beliefs = {"quality.avg": belief([0.8 + mean], sd, incumbent=0.8)}
    made = appraise(beliefs, {"quality.avg": 1.0}, [], noise={"quality.avg": error}, best=best)
    measured = norm(mean, (sd**2 + error) ** 0.5)

    def improvement(y: float) -> float:
        gain = max(0.0, mean + sd**2 / (sd**2 + error) * (y - mean) - (best or 0.0))
        return gain * float(measured.pdf(y))

    expected, _ = quad(improvement, mean - 15, mean + 15, points=[mean - 1, mean, mean + 1], limit=400)
    assert made.ei[0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("value", [55.0, 70.0, 82.0])
def test_the_odds_of_an_interval_are_those_of_its_distribution(value: float) -> None:
    given = RESPONSES["quality.avg"].prediction(0.7, 0.1, 0)
    found = odds(bound(metric="quality", min=value), given)
    assert found == pytest.approx(norm.sf((value / 100 - 0.7) / 0.1), rel=1e-9)
    cut_off = RESPONSES["quality.avg"].prediction(0.95, 0.1, 0)
    assert odds(bound(metric="quality", max=value), cut_off) == pytest.approx(
        norm.cdf((value / 100 - 0.95) / 0.1), rel=1e-9
    )


@pytest.mark.parametrize("mean", [0.62, 0.7, 0.75, 0.85])
def test_what_a_canary_will_show_of_a_bound_is_what_many_canaries_show(mean: float) -> None:
    """The share of measurements after which the posterior puts 0.9 within the bound."""
    sd, error, floor = 0.05, 0.03**2, 0.7
    beliefs = {"quality.avg": belief([mean], sd, incumbent=0.8)}
    bounds = [bound(metric="quality", min=100 * floor)]
    made = appraise(beliefs, {"quality.avg": 1.0}, bounds, noise={"quality.avg": error})
    rng = np.random.default_rng(7)
    measured = rng.normal(rng.normal(mean, sd, 200_000), error**0.5)
    learnt = sd**2 / (sd**2 + error)
    after = mean + learnt * (measured - mean)
    shown = norm.sf(floor, after, sd * (1 - learnt) ** 0.5) >= 0.9
    assert made.keepable[0] == pytest.approx(shown.mean(), abs=0.005)


def test_of_two_that_promise_the_same_the_one_that_one_canary_can_show_to_be_within_the_bounds() -> None:
    beliefs = {
        "quality.avg": belief([0.705, 0.78], 0.02, incumbent=0.7),
        "cost.avg": belief([-1.2, -0.7], 0.05),
    }
    noise = {"quality.avg": 0.03**2, "cost.avg": 0.03**2}
    bounds = [bound(metric="quality", min=70)]
    made = appraise(beliefs, {"cost.avg": -1.0}, bounds, noise=noise)
    assert made.ei[0] * made.feasibility[0] > made.ei[1] * made.feasibility[1]
    assert made.keepable[0] < 0.1 < 0.9 < made.keepable[1]
    assert chosen(made) == 1

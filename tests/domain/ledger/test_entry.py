"""When an interval holds, by closed forms, and what can be compared at all."""

from math import log, sqrt

import numpy as np
import pytest

from domain.decision.responses import Z90
from domain.ledger.effects import effect, predicted_effect
from domain.ledger.entry import Comparison, LedgerEntry
from domain.plan import Prediction
from tests.domain.ledger.entries import cost_entry


def comparison(entry: LedgerEntry) -> Comparison:
    assert entry.comparison is not None
    return entry.comparison


def test_effects_are_ratios_of_costs_and_latencies_and_differences_of_the_rest() -> None:
    assert effect("cost.avg", 0.01, 0.005) == pytest.approx(-log(2))
    assert effect("latency.p95", 400.0, 800.0) == pytest.approx(log(2))
    assert effect("quality.avg", 80.0, 84.0) == 4.0
    assert effect("errors.rate", 0.0, 0.01) == 0.01


@pytest.mark.parametrize(
    ("metric", "before", "after"),
    [("cost.avg", 0.0, 1.0), ("cost.avg", 1.0, 0.0), ("requests.count", 1.0, 2.0)],
)
def test_some_changes_have_no_effect_to_compare(metric: str, before: float, after: float) -> None:
    assert effect(metric, before, after) is None


def test_a_drift_of_the_whole_service_is_no_error_of_the_prediction() -> None:
    """Both arms cost twice what the incumbent did when the plan was made."""
    found = comparison(cost_entry(promised=-0.5, sd=0.1, measured=-0.5))
    assert found.error == pytest.approx(0.0)
    assert found.held


def test_an_interval_holds_as_far_as_it_and_the_measurement_reach_together() -> None:
    reach = Z90 * sqrt(0.1**2 + 0.05**2)
    inside, outside = (
        comparison(cost_entry(promised=-0.3, sd=0.1, measured=-0.3 + times * reach, se=0.05))
        for times in (0.999, 1.001)
    )
    assert inside.held
    assert not outside.held
    assert outside.standardised == pytest.approx(1.001 * Z90)
    assert (outside.sd, outside.se) == pytest.approx((0.1, 0.05))


@pytest.mark.parametrize("se", [0.0, 0.08])
def test_the_need_is_the_factor_at_which_the_interval_just_holds(se: float) -> None:
    found = comparison(cost_entry(promised=0.0, sd=0.1, measured=0.4, se=se))
    assert found.need == pytest.approx(sqrt((0.4 / Z90) ** 2 - se**2) / 0.1)
    for times, held in ((1.001, True), (0.999, False)):
        widened = cost_entry(promised=0.0, sd=0.1 * found.need * times, measured=0.4, se=se)
        assert comparison(widened).held is held


def test_an_error_within_that_of_the_measurement_needs_nothing() -> None:
    assert comparison(cost_entry(promised=0.0, sd=0.001, measured=0.1, se=0.1)).need == 0.0


def test_what_was_widened_already_is_judged_by_what_it_was_before() -> None:
    once = comparison(cost_entry(promised=0.0, sd=0.1, measured=0.4))
    widened = comparison(cost_entry(promised=0.0, sd=0.25, measured=0.4, widening=2.5))
    assert not once.held
    assert widened.held
    assert widened.need == pytest.approx(once.need)


def test_figures_that_ended_a_rollout_are_taken_with_the_error_that_holds_whenever_one_stops() -> None:
    assert comparison(cost_entry(promised=0.0, sd=0.1, measured=0.4, se=0.05, stopped=True)).se == 0.1


def test_a_point_prediction_holds_only_within_the_error_of_the_measurement() -> None:
    assert comparison(cost_entry(promised=0.1, sd=0.0, measured=0.11, se=0.01)).held
    missed = comparison(cost_entry(promised=0.1, sd=0.0, measured=0.2))
    assert not missed.held
    assert np.isfinite([missed.need, missed.standardised]).all()


def test_an_interval_cut_off_where_the_metric_ends_is_judged_by_its_other_half() -> None:
    cut = Prediction(mean=99.0, low=99.0 - 2 * Z90, high=100.0, samples=0)
    promised = predicted_effect("quality.avg", cut, incumbent=95.0)
    assert promised is not None
    assert (promised.mean, promised.sd) == pytest.approx((4.0, 2.0))


@pytest.mark.parametrize(
    "lacking",
    [
        {"settled_at": None, "outcome": None},
        {"predicted": None},
        {"incumbent": None},
        {"measured": None},
        {"incumbent": 0.0},
        {"metric": "requests.count"},
    ],
)
def test_what_is_not_known_whole_is_not_compared(lacking: dict[str, object]) -> None:
    whole = cost_entry(promised=0.0, sd=0.1, measured=0.1)
    assert whole.comparison is not None
    assert whole.model_copy(update=lacking).compared().comparison is None


def test_right_predictions_hold_nine_times_in_ten_however_few_requests_measured_them() -> None:
    rng = np.random.default_rng(5)
    for se in (0.02, 0.1, 0.5):
        errors = rng.normal(0.0, sqrt(0.1**2 + se**2), 4_000)
        held = [comparison(cost_entry(promised=0.0, sd=0.1, measured=e, se=se)).held for e in errors]
        # 0.899 lies within 1.64 standard deviations; four standard errors are 0.019.
        assert np.mean(held) == pytest.approx(0.899, abs=0.019)

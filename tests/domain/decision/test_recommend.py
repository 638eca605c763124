"""What is promoted: observed, safe by the odds, better by the odds, never what was taken back."""

import pytest
from scipy.stats import norm

from domain.decision.problem import Rejection
from domain.decision.recommend import recommend
from domain.policy import Constraint
from tests.domain.decision.scenarios import MIXTRAL, NOW, config, floor, observation, problem

CHEAP = config(*MIXTRAL)
GOOD = observation(CHEAP, n=300, cost=(0.0009, 2e-5), quality=(80.0, 1.5), latency=(4000.0, 200.0))
BOTH = [observation(config()), GOOD]


def test_only_what_was_observed_is_promoted() -> None:
    assert recommend(problem(constraints=[floor(55)])) is None
    assert recommend(problem(constraints=[floor(55)], history=BOTH)) == CHEAP
    assert recommend(problem(history=[])) is None


@pytest.mark.parametrize("low", [78.3, 77.7])
def test_the_floor_is_kept_with_ninety_percent(low: float) -> None:
    """A measurement of 80 ± 1.5 beside a prior of 70 ± 15: as sure as its own normal odds, nearly."""
    sure = bool(norm.cdf((80 - low) / 1.58) >= 0.9)
    assert (recommend(problem(constraints=[floor(low)], history=BOTH)) is not None) is sure


@pytest.mark.parametrize(("measured", "kept"), [(76.8, False), (77.2, True)])
def test_what_was_measured_past_a_bound_is_not_promoted(measured: float, kept: bool) -> None:
    """However sure its model's other settings make it."""
    twin = config(temperature=0.2)
    seen = observation(twin, n=60, cost=(0.0100, 1e-4), quality=(measured, 9.0))
    asked = problem(
        constraints=[floor(77)],
        history=[observation(config()), seen],
        space={"temperature": {"min": 0.0, "max": 1.0}},
    )
    assert recommend(asked) == (twin if kept else None)


def test_a_small_or_unsure_gain_is_not_promoted() -> None:
    twin = config(temperature=0.2)
    space = {"temperature": {"min": 0.0, "max": 1.0}}
    little = observation(twin, n=3000, cost=(0.0168, 1e-4))
    assert recommend(problem(history=[observation(config()), little], space=space)) is None
    better = observation(twin, n=3000, cost=(0.0150, 1e-4), quality=(90.0, 0.5))
    assert recommend(problem(history=[observation(config()), better], space=space)) == twin
    unsure = observation(twin, n=60, quality=(89.0, 5.0))
    assert recommend(problem(history=[observation(config()), unsure], space=space)) is None


def test_a_little_more_is_not_worth_the_odds_of_a_breach() -> None:
    """About 97 % within the ceiling is enough for a far cheaper model, not for a gain of .044."""
    twin = config(temperature=0.2)
    space = {"temperature": {"min": 0.0, "max": 1.0}}
    little = [observation(config()), observation(twin, cost=(0.014, 1e-4), quality=(86.0, 0.5))]
    far = [observation(config()), observation(CHEAP, cost=(0.0009, 2e-5), quality=(86.0, 0.5))]
    near, wide = (Constraint(type="hard", metric="latency.p95", max=ms) for ms in (10_200, 20_000))
    assert recommend(problem(history=far, constraints=[near])) == CHEAP
    assert recommend(problem(history=little, space=space, constraints=[near])) is None
    assert recommend(problem(history=little, space=space, constraints=[wide])) == twin


def test_what_was_taken_back_is_never_promoted_however_long_ago() -> None:
    back = Rejection(config=CHEAP, at=NOW - 30 * 86_400_000, reason="errors")
    assert recommend(problem(history=BOTH, rejections=[back])) is None


def test_nothing_is_promoted_in_a_cooldown_or_out_of_the_space() -> None:
    wait = Constraint(type="hard", cooldown_ms=60_000)
    assert recommend(problem(history=BOTH, constraints=[wait], last_change_at=NOW - 1)) is None
    only = Constraint(type="hard", models=["gpt-4-1106-preview"])
    assert recommend(problem(history=BOTH, constraints=[only])) is None
    assert (
        recommend(
            problem(history=BOTH, constraints=[floor(90), Constraint(type="hard", metric="quality", max=80)])
        )
        is None
    )

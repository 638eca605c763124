"""Prices that changed, models that went away, predictions that proved too sure, topK."""

from typing import Any

import pytest

from domain.decision.availability import FAILED_FOR_MS, unavailable
from domain.decision.candidates import candidates
from domain.decision.decide import decide
from domain.decision.estimates import observation_of
from domain.decision.pooling import pool, pool_key
from domain.decision.problem import DecisionProblem, Skip
from domain.decision.repricing import repriced
from domain.decision.strategy import StructuredPriorStrategy
from domain.plan import OptimizationPlan
from domain.policy import SearchSpace
from domain.totals import Totals
from tests.domain.decision.scenarios import GPT4, MIXTRAL, NOW, candidate, config, observation, problem

DAY = 86_400_000
STRATEGY = StructuredPriorStrategy()


def plan(asked: DecisionProblem) -> OptimizationPlan:
    outcome = decide(asked, STRATEGY)
    assert isinstance(outcome, OptimizationPlan), outcome
    return outcome


def test_an_older_cost_is_brought_to_the_price_that_the_newest_shows() -> None:
    old = observation(config(), cost=(0.034, 4e-4)).model_copy(update={"observed_at": NOW - 2 * DAY})
    new = observation(config(), n=300, cost=(0.017, 4e-4))
    first, second = repriced([old, new], SearchSpace(), NOW)
    assert first.metrics["cost.avg"].mean == pytest.approx(0.017)
    assert first.metrics["cost.avg"].se == pytest.approx(2e-4)
    assert second == new


def test_costs_that_differ_by_chance_or_by_their_tokens_are_left_alone() -> None:
    old = observation(config(), cost=(0.0175, 8e-4)).model_copy(update={"observed_at": NOW - DAY})
    short = config(max_tokens=100)
    cut = observation(short, cost=(1100 * 10e-6 + 87.5 * 30e-6, 1e-5))
    as_listed = observation(config(), cost=(1100 * 10e-6 + 200 * 30e-6, 1e-5))
    older = as_listed.model_copy(update={"observed_at": NOW - DAY})
    history = [old, observation(config())]
    assert repriced(history, SearchSpace(), NOW) == history
    assert repriced([older, cut], SearchSpace(), NOW) == [older, cut]


def test_without_tokens_or_cost_there_is_nothing_to_reprice() -> None:
    bare = observation(config()).model_copy(update={"tokens": None, "observed_at": NOW - DAY})
    none = observation(config()).model_copy(update={"metrics": {}})
    assert repriced([bare, none], SearchSpace(), NOW) == [bare, none]


def test_a_list_price_of_then_becomes_that_of_now() -> None:
    """deepseek-chat cost $0.14 in and $0.28 out per million until 2025-02-08, $0.27 and $1.10 after."""
    names, then = ("deepseek", "deepseek-chat"), 1_736_000_000_000
    priced = observation(config(*names), cost=(1100 * 0.14e-6 + 200 * 0.28e-6, 1e-6))
    seen = priced.model_copy(update={"observed_at": then})
    space = SearchSpace(models=[candidate(names)])
    from domain.pricing import token_prices

    before, after = token_prices(*names, at=then), token_prices(*names, at=NOW)
    assert before is not None
    assert after is not None
    (moved,) = repriced([seen], space, NOW)
    expected = seen.metrics["cost.avg"].mean * after.of(1100, 200) / before.of(1100, 200)
    assert moved.metrics["cost.avg"].mean == pytest.approx(expected)


def failing(n: int, at: int) -> Any:
    return observation_of(config(*MIXTRAL), Totals(n=n, errors=n, last_at=at))


def test_a_model_whose_last_calls_all_failed_is_not_proposed_and_the_reason_says_so() -> None:
    asked = problem(history=[observation(config()), failing(20, NOW)])
    outcome = decide(asked, STRATEGY)
    assert isinstance(outcome, Skip)
    assert "mixtral-8x7b-instruct-v0.1 is left out: all of its last 20 calls failed" in outcome.reasoning
    others = [candidate(GPT4), candidate(MIXTRAL), candidate(("openai", "gpt-4o"))]
    made = plan(asked.model_copy(update={"search_space": SearchSpace(models=others)}))
    assert made.recommended_config.model == "gpt-4o"
    assert "all of its last 20 calls failed" in made.rationale


@pytest.mark.parametrize(
    ("history", "gone"),
    [
        ([failing(20, NOW)], True),
        ([failing(4, NOW)], False),
        ([failing(20, NOW - FAILED_FOR_MS)], False),
        ([failing(20, NOW - 1), observation(config(*MIXTRAL))], False),
        ([observation(config(*MIXTRAL)), failing(20, NOW + 1)], True),
        ([observation(config(*MIXTRAL), errors=(0.99, 0.01))], False),
    ],
)
def test_the_last_calls_count(history: list[Any], gone: bool) -> None:
    assert bool(unavailable(problem(history=[observation(config()), *history]))) is gone


def test_models_named_as_gone_are_not_proposed() -> None:
    for name in (MIXTRAL[1], "/".join(MIXTRAL)):
        outcome = decide(problem(unavailable=[name]), STRATEGY)
        assert isinstance(outcome, Skip)
        assert "said to be gone" in outcome.reasoning


def test_widening_multiplies_the_interval_and_lowers_the_odds() -> None:
    plain, wide = plan(problem()), plan(problem(widening={"quality": 1.5, "cost": 1.0}))
    before, after = plain.predictions["quality.avg"], wide.predictions["quality.avg"]
    assert after.mean - after.low == pytest.approx(1.5 * (before.mean - before.low))
    assert wide.predictions["cost.avg"] == plain.predictions["cost.avg"]
    assert wide.confidence < plain.confidence
    assert "Widened, since past predictions proved too sure: quality.avg 1.5 times." in wide.rationale
    assert "Widened" not in plain.rationale


def test_top_k_is_varied_where_the_provider_takes_it() -> None:
    present = config("google", "gemini-2.5-flash", top_k=40)
    models = [candidate(("google", "gemini-2.5-flash")), candidate(("openai", "gpt-4o-mini"))]
    history = [observation(present)]
    asked = problem(
        incumbent=present, models=models, history=history, space={"top_k": {"min": 5, "max": 100}}
    )
    found = candidates(asked, pool(history, present, NOW)).configs
    mine = {c.top_k for c in found if c.provider == "google"}
    assert {10, 20, 80} <= mine
    assert all(top_k is not None and 5 <= top_k <= 100 for top_k in mine)
    assert {c.top_k for c in found if c.provider == "openai"} == {None}
    fixed = asked.model_copy(update={"search_space": SearchSpace(models=models)})
    assert {c.top_k for c in candidates(fixed, pool(history, present, NOW)).configs} == {None}


def test_top_k_tells_configurations_apart_where_it_is_taken() -> None:
    google, openai = ("google", "gemini-2.5-flash"), ("openai", "gpt-4o")
    assert pool_key(config(*google, top_k=10)) != pool_key(config(*google, top_k=80))
    assert pool_key(config(*google, top_k=10)) == pool_key(config(*google, top_k=11))
    assert pool_key(config(*openai, top_k=10)) == pool_key(config(*openai, top_k=80))


def test_in_pareto_mode_the_plan_and_its_alternatives_are_one_front() -> None:
    names = [("own", f"m{i}") for i in range(4)]
    models = [candidate(GPT4, score=70)] + [
        candidate(n, score=72 + 4 * i, price_per_m_tok_in=1 + i, price_per_m_tok_out=2 + 2 * i)
        for i, n in enumerate(names)
    ]
    made = plan(problem(mode="pareto", models=models))
    points = [
        (p["cost.avg"].mean, p["latency.p95"].mean, -p["quality.avg"].mean)
        for p in (made.predictions, *(a.predictions for a in made.alternatives))
    ]
    assert len(points) > 1
    for one in points:
        assert not any(
            other != one and all(a <= b for a, b in zip(other, one, strict=True)) for other in points
        )


def test_what_can_be_adopted_already_is_looked_past() -> None:
    good = observation(config(*MIXTRAL), cost=(0.0009, 1e-5), quality=(86.0, 0.7), latency=(4000.0, 80.0))
    asked = problem(history=[observation(config()), good], space={"temperature": {"min": 0.0, "max": 1.0}})
    assert plan(asked).recommended_config == config(*MIXTRAL)
    outcome = decide(asked.model_copy(update={"adoptable": True}), STRATEGY)
    assert isinstance(outcome, OptimizationPlan)

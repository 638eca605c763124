"""What a decision is told of how sure its predictions may be, and what its plan promises to the ledger."""

import pytest

from activities import problems
from activities.problems import Observed
from domain.decision.history import MetricEstimate, Observation
from domain.plan import OptimizationPlan
from domain.policy import ServicePolicy
from storage.database import Database
from tests.storage.ledgers import ended, level, of_cost
from tests.storage.records import AT, config

PRESENT = config()


def observed(*history: Observation) -> Observed:
    return Observed(
        incumbent=PRESENT,
        incumbent_version="chat@2",
        last_change_at=AT - 1000,
        observed_at=AT,
        history=list(history),
        traffic=[],
        left_out=0,
    )


def costing(mean: float, n: int, model: str = PRESENT.model) -> Observation:
    return Observation(
        config=config(model),
        incumbent=model == PRESENT.model,
        n=n,
        metrics={"cost.avg": MetricEstimate(mean=mean, se=0.0001, n=n)},
        observed_at=AT,
    )


PLAN = OptimizationPlan(
    service="chat",
    recommended_config=config("gpt-5"),
    expected_improvement={"cost.avg": 0.5},
    predictions={"cost.avg": level(0.005, 0.004, 0.006)},
    confidence=0.8,
    rationale="cheaper",
    alternatives=[],
    source="model",
)


async def test_a_decision_is_told_by_what_to_widen(database: Database) -> None:
    policy = ServicePolicy(service="chat")
    async with database.transaction() as session:
        problem = await problems.problem_of(session, "chat", observed(), policy)
    assert problem.widening == {}
    for number in range(3):
        await ended(database, "chat", of_cost(half=0.0002), cost=(0.01, 0.008), number=number)
    async with database.transaction() as session:
        problem = await problems.problem_of(session, "chat", observed(), policy)
    assert set(problem.widening) == {"cost.avg"}
    assert problem.widening["cost.avg"] > 1.5


def test_a_promise_starts_from_all_that_was_observed_of_the_incumbent() -> None:
    """Of both versions that had its settings, as the decision pools them, and of no other configuration."""
    seen = observed(costing(0.012, 300), costing(0.008, 100), costing(0.001, 900, "gpt-5"))
    promise = problems.promise_of(PLAN, seen, {"cost.avg": 1.3})
    assert promise.incumbent == {"cost.avg": pytest.approx(0.011)}
    assert (promise.predictions, promise.confidence) == (PLAN.predictions, 0.8)
    assert promise.widening == {"cost.avg": 1.3}


def test_without_an_observation_of_the_incumbent_it_starts_from_nothing() -> None:
    assert problems.promise_of(PLAN, observed(costing(0.001, 900, "gpt-5")), {}).incumbent == {}

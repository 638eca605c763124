"""Savings: what was measured, what is projected from it, and how their errors add up."""

from math import sqrt
from typing import Any

import pytest

from domain.deployment import Samples
from domain.ledger.entry import LedgerEntry
from domain.ledger.measurement import Measurement
from domain.ledger.savings import DeploymentSavings, Saved, Versions, deployment_savings, total_savings
from domain.plan import Prediction

VERSIONS = Versions(from_version="chat@1", to_version="chat@2", status="completed")


def of_cost(saved: float = 0.002, half: float | None = 0.0005, **given: Any) -> LedgerEntry:
    """An entry whose canary cost `saved` USD less per request than control, over 100 requests."""
    measured = Measurement(
        control=0.01,
        canary=0.01 - saved,
        difference=-saved,
        low=None if half is None else -saved - half,
        high=None if half is None else -saved + half,
        samples=Samples(control=300, canary=100),
    )
    fields: dict[str, Any] = {
        "deployment_id": "dep_1",
        "service": "chat",
        "scope": "chat",
        "metric": "cost.avg",
        "opened_at": 1,
        "predicted": Prediction(mean=0.007, low=0.006, high=0.0075, samples=0),
        "incumbent": 0.01,
        "measured": measured,
    }
    return LedgerEntry(**(fields | given))


def ends(saved: Saved | None) -> tuple[int, Any]:
    assert saved is not None
    return saved.requests, pytest.approx((saved.usd, saved.low, saved.high))


def savings(entry: LedgerEntry, answered: int = 1100) -> DeploymentSavings:
    return deployment_savings(entry, VERSIONS, answered)


def test_measured_is_what_ran_beside_control_and_the_rest_is_projected() -> None:
    found = savings(of_cost())
    assert ends(found.measured) == (100, (0.2, 0.15, 0.25))
    assert ends(found.projected) == (1000, (2.0, 1.5, 2.5))
    assert ends(found.expected) == (1100, (3.3, 2.75, 4.4))


def test_a_change_that_costs_more_saves_less_than_nothing() -> None:
    found = savings(of_cost(saved=-0.001), answered=100)
    assert ends(found.measured) == (100, (-0.1, -0.15, -0.05))
    assert ends(found.projected) == (0, (0.0, 0.0, 0.0))


def test_fewer_known_answers_than_compared_requests_project_nothing() -> None:
    """Reports that name no version are compared by their model, and counted for none."""
    found = savings(of_cost(), answered=40)
    assert found.projected is not None
    assert found.projected.requests == 0


def test_without_an_interval_nothing_is_said_to_be_saved() -> None:
    for entry in (of_cost(half=None), of_cost(measured=None)):
        found = savings(entry)
        assert (found.showed, found.measured, found.projected) == (None, None, None)
        assert found.promised is not None


def test_a_total_adds_deployments_up_with_independent_errors() -> None:
    by_hand = of_cost(saved=0.004, half=0.001, predicted=None)
    total = total_savings([savings(of_cost()), savings(by_hand, 100), savings(of_cost(half=None))])
    assert (total.deployments, total.unmeasured) == (3, 1)
    half = sqrt(0.05**2 + 0.1**2)
    assert ends(total.measured) == (200, (0.6, 0.6 - half, 0.6 + half))
    assert ends(total.projected) == (1000, (2.0, 1.5, 2.5))
    # What a deployment measured and what is projected from it are wrong together.
    half = sqrt(0.55**2 + 0.1**2)
    assert ends(total.both) == (1200, (2.6, 2.6 - half, 2.6 + half))
    # Against what was promised only where something was.
    assert ends(total.expected) == (1100, (3.3, 2.75, 4.4))
    assert ends(total.came_to) == (1100, (2.2, 1.65, 2.75))


def test_nothing_comes_to_nothing() -> None:
    total = total_savings([])
    assert ends(total.both) == (0, (0.0, 0.0, 0.0))

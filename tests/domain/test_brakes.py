"""The circuit breaker and the limit on rollbacks, from the rollouts that there were."""

from typing import Any

from domain.brakes import OPEN_MS, Ended, brakes
from domain.policy import ServicePolicy

NOW = 1_760_000_000_000
DAY = 86_400_000


def policy(**fields: Any) -> ServicePolicy:
    return ServicePolicy.model_validate({"service": "chat", **fields})


def ended(*failed: bool, at: int = NOW - 60_000) -> list[Ended]:
    """The newest first, a second apart."""
    return [Ended(f"dep_{index}", at - 1000 * index, found) for index, found in enumerate(failed)]


def test_it_opens_after_three_failures_in_a_row_and_not_before() -> None:
    assert brakes(ended(True, True), [], policy(), NOW).breaker == "closed"
    assert brakes(ended(True, True, False, True), [], policy(), NOW).breaker == "closed"
    found = brakes(ended(True, True, True), [], policy(), NOW)
    assert (found.breaker, found.open_until) == ("open", NOW - 60_000 + OPEN_MS)
    assert found.refusal == (
        "the circuit breaker is open: 3 automatic rollouts in a row failed (dep_0, dep_1, dep_2)"
    )


def test_an_hour_after_the_last_it_is_half_open() -> None:
    failures = ended(True, True, True, at=NOW - OPEN_MS)
    assert brakes(failures, [], policy(), NOW - 1).breaker == "open"
    half = brakes(failures, [], policy(), NOW)
    assert (half.breaker, half.open_until, half.refusal) == ("half-open", None, None)
    again = [Ended("dep_new", NOW, True), *failures]
    assert brakes(again, [], policy(), NOW + 1).breaker == "open", "the trial failed too"
    healed = [Ended("dep_new", NOW, False), *failures]
    assert brakes(healed, [], policy(), NOW + 1).breaker == "closed"


def test_the_policy_says_after_how_many() -> None:
    assert brakes(ended(True), [], policy(breakerAfter=1), NOW).breaker == "open"
    assert brakes(ended(*[True] * 4), [], policy(breakerAfter=5), NOW).breaker == "closed"


def test_a_day_lets_one_go() -> None:
    times = [NOW - 1000 * hour for hour in (1, 2, 3, 4, 5)]
    full = brakes([], times, policy(), NOW)
    assert full.limited
    assert full.room_at == NOW - 5000 + DAY
    assert full.refusal == "5 rollbacks within 24 h are as many as maxRollbacksPerDay (5) allows"
    assert brakes([], times[:4], policy(), NOW).refusal is None
    more = brakes([], times, policy(maxRollbacksPerDay=3), NOW)
    assert more.room_at == NOW - 3000 + DAY, "there is room once there are fewer than three"


def test_none_at_all_may_be_risked_where_none_may_be_taken_back() -> None:
    never = brakes([], [], policy(maxRollbacksPerDay=0), NOW)
    assert (never.limited, never.room_at) == (True, None)

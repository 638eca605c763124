"""When a rule may fire: for certain, after its cooldown, within its daily cap, the higher priority first."""

from typing import Any

import pytest

from domain.conditions import Rule, Trigger
from domain.rules.firing import DEFAULT_COOLDOWN_MS, Fired, fired_of, held_back, is_event, judge_all, key_of
from tests.domain.rules.conditions import FAILING, metric, rule, trigger

NOW = 1_760_000_000_000
DAY = 86_400_000


@pytest.mark.parametrize(
    ("fields", "fired", "waits"),
    [
        ({}, None, None),
        ({}, Fired(NOW - DEFAULT_COOLDOWN_MS, 1), None),
        ({}, Fired(NOW - DEFAULT_COOLDOWN_MS + 1, 1), "its cooldown has 1 s left"),
        ({"cooldownMs": 0}, Fired(NOW, 7), None),
        ({"cooldownMs": 90_000}, Fired(NOW - 30_000, 1), "its cooldown has 60 s left"),
        ({"cooldownMs": 90_000}, Fired(NOW + 500_000, 1), "its cooldown has 90 s left"),
        ({"cooldownMs": 0, "maxPerDay": 2}, Fired(NOW, 1), None),
        (
            {"cooldownMs": 0, "maxPerDay": 2},
            Fired(NOW - 1, 2),
            "it fired 2 times within 24 h, of 2 that it may",
        ),
    ],
)
def test_cooldown_and_cap(fields: dict[str, Any], fired: Fired | None, waits: str | None) -> None:
    assert held_back(rule(**fields), fired, NOW) == waits


def test_a_firing_of_more_than_a_day_ago_counts_for_no_cap() -> None:
    assert fired_of([], NOW) is None
    assert fired_of([NOW - DAY, NOW - DAY + 1, NOW - 5], NOW) == Fired(NOW - 5, 2)


def test_it_fires_where_it_holds_and_nothing_holds_it_back() -> None:
    subjects = [
        rule(id="yes"),
        rule(metric(value=0.5), id="no"),
        rule(metric("quality", "<", 50), id="maybe"),
    ]
    waiting = {"rule/yes": Fired(NOW - 1, 1)}
    assert [j.fires for j in judge_all(subjects, FAILING, {}, NOW)] == [True, False, False]
    assert [j.fires for j in judge_all(subjects, FAILING, waiting, NOW)] == [False, False, False]


def test_higher_priority_first_and_a_rollback_before_its_equals() -> None:
    back = {"type": "rollback"}
    subjects: list[Rule | Trigger] = [
        rule(id="low", priority=-1),
        rule(id="first"),
        rule(id="back", action=back),
        trigger(),
        rule(id="high", priority=5),
        rule(id="off", priority=9, enabled=False),
    ]
    keys = [judged.key for judged in judge_all(subjects, FAILING, {}, NOW)]
    assert keys == ["rule/high", "rule/back", "rule/first", key_of(trigger()), "rule/low"]


def test_a_trigger_is_known_by_its_condition_alone() -> None:
    assert key_of(trigger(cooldown_ms=1)) == key_of(trigger(cooldown_ms=2))
    assert key_of(trigger(metric(value=0.06))) != key_of(trigger())
    assert key_of(trigger()).startswith("trigger/")


def test_an_anomaly_anywhere_in_it_makes_an_event() -> None:
    assert is_event(trigger({"any": [metric(), {"not": {"anomaly": "cost"}}]}))
    assert not is_event(trigger({"any": [metric(), {"trend": "cost", "direction": "up", "window": "1h"}]}))

"""What is wrong with rules, said when they are saved."""

import json
from pathlib import Path
from typing import Any

import pytest

from domain.policy import ServicePolicy
from domain.rules.validation import faults
from tests.domain.rules.conditions import metric

ALERT = {"type": "alert", "severity": "low"}
SWITCH = {"type": "model_switch", "provider": "openai", "model": "gpt-4o-mini"}
SPACE = {"models": [{"provider": "openai", "model": "gpt-4o-mini"}]}


def said(
    condition: dict[str, Any] | None = None, action: dict[str, Any] | None = None, **policy: Any
) -> list[str]:
    """The faults of a policy with one rule."""
    rules = [{"id": "r", "condition": condition or metric(), "action": action or ALERT}]
    given = ServicePolicy.model_validate({"service": "chat", "rules": rules, **policy})
    return [f"{fault.field}: {fault.reason}" for fault in faults(given)]


def nested(depth: int) -> dict[str, Any]:
    return metric() if depth == 1 else {"not": nested(depth - 1)}


@pytest.mark.parametrize(
    ("condition", "fault"),
    [
        (metric(value=5), "rules[0].condition.value: errors.rate lies in 0..1: errors.rate > 5 never holds"),
        (metric(value=1), "rules[0].condition.value: errors.rate lies in 0..1: errors.rate > 1 never holds"),
        (
            metric(op=">=", value=0),
            "rules[0].condition.value: errors.rate lies in 0..1: errors.rate >= 0 always",
        ),
        (
            metric("quality", "<", 0),
            "rules[0].condition.value: quality.avg lies in 0..100: quality.avg < 0 never",
        ),
        (metric("quality", "<=", 100), "rules[0].condition.value: quality.avg lies in 0..100"),
        (metric("latency", "<", 0), "rules[0].condition.value: latency.p95 is never negative"),
        (metric("cost.total", ">", -1), "rules[0].condition.value: cost.total is never negative"),
        (
            metric(window="7d", forWindows=13),
            "rules[0].condition.forWindows: 13 windows of 7d reach back 91 days, more than 90",
        ),
        (
            {"trend": "cost", "direction": "up", "window": "1m"},
            "rules[0].condition.window: trends are looked for over 1h, 24h, 7d",
        ),
        (
            {"trend": "latency.p99", "direction": "up", "window": "24h"},
            "rules[0].condition.trend: trends are looked for in latency.p95, latency.avg",
        ),
        (
            {"anomaly": "cost.total"},
            "rules[0].condition.anomaly: anomalies are looked for in latency.p95, latency.avg",
        ),
        (
            {"all": [metric(), {"any": [{"not": metric(value=9)}]}]},
            "rules[0].condition.all[1].any[0].not.value: errors.rate lies in 0..1",
        ),
        (nested(9), "rules[0].condition: more than 64 conditions, or nested deeper than 8"),
        (
            {"all": [{"any": [metric()] * 32}, {"any": [metric()] * 32}, metric()]},
            "rules[0].condition: more than 64 conditions",
        ),
    ],
)
def test_a_condition_that_says_nothing(condition: dict[str, Any], fault: str) -> None:
    (found,) = said(condition)
    assert found.startswith(fault)


@pytest.mark.parametrize(
    "condition",
    [
        metric(value=0),
        metric(op=">=", value=1),
        metric("quality", "<", 100),
        metric("requests.count", "<", 1),
        metric("cost.total", ">", 100, window="24h", forWindows=7),
        {"trend": "quality", "direction": "down", "minChange": 0.05, "window": "24h"},
        {"anomaly": "latency", "minSeverity": "high"},
        nested(8),
    ],
)
def test_a_condition_that_is_sound(condition: dict[str, Any]) -> None:
    assert said(condition) == []


@pytest.mark.parametrize(
    ("action", "fault"),
    [
        (
            {"set": {"temprature": 1}},
            "rules[0].action.set.temprature: no such field; one of provider, model,",
        ),
        ({"set": {"max_tokens": 1}}, "rules[0].action.set.max_tokens: no such field"),
        (
            {"set": {"temperature": 3}},
            "rules[0].action.set.temperature: Input should be less than or equal to 2",
        ),
        ({"set": {"temperature": "hot"}}, "rules[0].action.set.temperature: Input should be a valid number"),
        ({"set": {"maxTokens": None}}, "rules[0].action.set.maxTokens: Input should be a valid integer"),
        (
            {"set": {"stopSequences": [1]}},
            "rules[0].action.set.stopSequences.0: Input should be a valid string",
        ),
        ({"set": {"provider": "x"}}, "rules[0].action.set.provider: a provider is changed together with the"),
        (
            {"set": {"provider": "x", "model": "y"}},
            "rules[0].action.set.model: x/y is neither in searchSpace.models nor allowed by a constraint",
        ),
    ],
)
def test_a_change_that_no_configuration_can_have(action: dict[str, Any], fault: str) -> None:
    (found,) = said(action={"type": "config_change", **action})
    assert found.startswith(fault)


def test_a_change_that_is_sound() -> None:
    given: dict[str, Any] = {
        "temperature": 0,
        "topK": None,
        "parameters": {"seed": 1},
        "stopSequences": [],
        "streaming": True,
    }
    assert said(action={"type": "config_change", "set": given}) == []


@pytest.mark.parametrize(
    ("policy", "fault"),
    [
        ({}, "openai/gpt-4o-mini is neither in searchSpace.models nor allowed by a constraint's models"),
        ({"searchSpace": SPACE}, None),
        ({"constraints": [{"type": "soft", "models": ["gpt-4o-mini"]}]}, None),
        ({"constraints": [{"type": "soft", "models": ["gpt-4o"]}]}, "openai/gpt-4o-mini is neither"),
        ({"constraints": [{"type": "hard", "models": ["openai/gpt-4o-mini"]}]}, None),
        (
            {"searchSpace": SPACE, "constraints": [{"type": "hard", "models": ["gpt-4o"]}]},
            "openai/gpt-4o-mini is not among the models that a hard constraint allows: gpt-4o",
        ),
    ],
)
def test_a_model_has_to_be_one_that_the_policy_knows(policy: dict[str, Any], fault: str | None) -> None:
    found = said(action=SWITCH, **policy)
    assert len(found) == (fault is not None)
    assert all(text.startswith(f"rules[0].action.model: {fault}") for text in found)


@pytest.mark.parametrize(
    ("version", "sound"), [("chat@3", True), ("mail@3", False), ("chat:a@3", False), ("chat", False)]
)
def test_a_rollback_stays_within_its_service(version: str, sound: bool) -> None:
    found = said(action={"type": "rollback", "toVersion": version})
    assert found == ([] if sound else [f"rules[0].action.toVersion: {version!r} is no version of chat"])


def test_triggers_are_looked_through_as_well() -> None:
    triggers = [{"condition": metric(), "cooldownMs": 0}, {"condition": metric(value=2), "cooldownMs": 0}]
    given = ServicePolicy.model_validate({"service": "chat", "triggers": triggers})
    assert [fault.field for fault in faults(given)] == ["triggers[1].condition.value"]


def test_the_rules_of_the_documentation_are_sound() -> None:
    text = (Path(__file__).parents[3] / "docs" / "rules.md").read_text(encoding="utf-8")
    policy = json.loads(text.split("```json\n")[1].split("```")[0])
    models = {"models": [{"provider": "openai", "model": "gpt-4o-mini"}]}
    given = ServicePolicy.model_validate({"service": "chat", "searchSpace": models, **policy})
    assert (len(given.rules), len(given.triggers), faults(given)) == (2, 1, [])

"""Conditions and signals that tests of rules are made of."""

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from domain.conditions import Condition, Rule, Severity, Trigger, Window
from domain.rules.signals import Findings, Snapshot, TrendReading, WindowFacts
from domain.totals import Amount, Totals

_CONDITION: TypeAdapter[Condition] = TypeAdapter(Condition)


def condition(given: Mapping[str, Any]) -> Condition:
    return _CONDITION.validate_python(dict(given))


def rule(given: Mapping[str, Any] | None = None, **fields: Any) -> Rule:
    """An alert, unless another action is given, on a condition that `FAILING` makes hold."""
    usual = {"id": "r", "condition": given or metric(), "action": {"type": "alert", "severity": "low"}}
    return Rule.model_validate(usual | fields)


def trigger(given: Mapping[str, Any] | None = None, cooldown_ms: int = 60_000) -> Trigger:
    return Trigger.model_validate({"condition": given or metric(), "cooldownMs": cooldown_ms})


def metric(name: str = "errors.rate", op: str = ">", value: float = 0.05, **fields: Any) -> dict[str, Any]:
    return {"metric": name, "op": op, "value": value, "window": "5m", **fields}


def facts(
    n: int, errors: int = 0, scores: int = 0, quality: float = 90.0, seconds: float = 300
) -> WindowFacts:
    """Calls that took 400 ms and cost $0.01 each, and scores."""
    good = n - errors
    return WindowFacts.of(
        Totals(
            n=n,
            errors=errors,
            latency=Amount.of([400.0] * good),
            cost=Amount(n, 0.01 * n, 0.0),
            quality=Amount(scores, quality * scores, 0.0),
        ),
        seconds,
    )


def signals(
    *windows: WindowFacts,
    window: Window = "5m",
    trends: Mapping[tuple[str, Window], TrendReading] | None = None,
    anomalies: Mapping[str, Severity] | None = None,
) -> Snapshot:
    """Windows of one length, the latest first."""
    return Snapshot(
        {(window, back): found for back, found in enumerate(windows)}, Findings(trends or {}, anomalies)
    )


FAILING = signals(facts(100, errors=10))

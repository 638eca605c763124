"""What a policy makes of the gate's settings."""

import pytest

from domain.gate.settings import GateSettings
from domain.policy import ServicePolicy


def _settings(**policy: object) -> GateSettings:
    return GateSettings.from_policy(ServicePolicy.model_validate({"service": "chat", **policy}))


def test_an_empty_policy_has_the_defaults() -> None:
    settings = _settings()
    assert settings == GateSettings()
    tolerances = [
        getattr(settings, key).tolerance for key in ("errors", "latency", "tail", "cost", "quality")
    ]
    assert tolerances == [0.25, 0.05, 0.10, 0.05, 1.0]
    weights = [getattr(settings, key).weight for key in ("errors", "tail", "latency", "cost", "quality")]
    assert weights == [0.30, 0.20, 0.15, 0.20, 0.15]


def test_a_guardrail_changes_what_it_names_and_no_more() -> None:
    settings = _settings(
        guardrails=[
            {"metric": "cost", "tolerance": 0.1, "weight": 0.5},
            {"metric": "quality.avg", "enabled": False},
        ]
    )
    assert (settings.cost.tolerance, settings.cost.weight, settings.cost.critical) == (0.1, 0.5, 0.3)
    assert not settings.quality.enabled
    assert settings.errors == GateSettings().errors


def test_a_wide_margin_asks_for_no_proof_of_less_than_it_allows() -> None:
    assert _settings(guardrails=[{"metric": "cost", "tolerance": 0.4}]).cost.critical == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("metric", "bounds", "expected"),
    [
        ("quality.avg", {"floor": 55, "min": 75}, 75),
        ("quality.avg", {"floor": 80, "min": 75}, 80),
        ("cost.avg", {"ceiling": 0.02, "max": 0.01}, 0.01),
        ("cost.avg", {"max": 0.01}, 0.01),
        ("latency.p95", {"ceiling": 900}, 900),
    ],
)
def test_of_several_bounds_the_stricter_holds(metric: str, bounds: dict[str, float], expected: float) -> None:
    guardrail = {key: bounds[key] for key in ("floor", "ceiling") if key in bounds}
    constraint = {key: bounds[key] for key in ("min", "max") if key in bounds}
    settings = _settings(
        guardrails=[{"metric": metric, **guardrail}] if guardrail else [],
        constraints=[{"type": "hard", "metric": metric, **constraint}] if constraint else [],
    )
    bound = {"quality.avg": settings.quality, "cost.avg": settings.cost, "latency.p95": settings.tail}[metric]
    assert bound.bound == expected


@pytest.mark.parametrize(
    "constraint",
    [
        {"type": "soft", "metric": "quality", "min": 75},
        {"type": "hard", "metric": "quality", "max": 75},
        {"type": "hard", "metric": "cost", "min": 0.1},
        {"type": "hard", "metric": "latency.p99", "max": 100},
        {"type": "hard", "models": ["openai/gpt-4o"]},
    ],
)
def test_what_is_no_bound_on_a_guardrail(constraint: dict[str, object]) -> None:
    assert _settings(constraints=[constraint]) == GateSettings()

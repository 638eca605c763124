"""What the gate allows: margins, bounds and weights per guardrail, and its error rates."""

from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import Field

from domain.base import Message
from domain.policy import ServicePolicy

Key = Literal["errors", "tail", "latency", "cost", "quality"]
KEYS: tuple[Key, ...] = ("errors", "tail", "latency", "cost", "quality")
METRIC_OF: dict[Key, str] = {
    "errors": "errors.rate",
    "tail": "latency.p95",
    "latency": "latency.avg",
    "cost": "cost.avg",
    "quality": "quality.avg",
}
KEY_OF = {metric: key for key, metric in METRIC_OF.items()}

Positive = Annotated[float, Field(gt=0)]


class GuardrailSettings(Message):
    """One guardrail.

    `tolerance` is the margin against control and `critical` the harm that must be ruled out before full
    exposure: points for quality, else fractions (.25 and 1.5 are x1.25 and x2.5). With a `bound`, in the
    metric's unit, the policy trades the metric: the bound takes control's place, and `critical` is what
    worsens it. `weight` is its part in the combined evidence.
    """

    tolerance: Annotated[float, Field(ge=0)]
    critical: Positive
    weight: Annotated[float, Field(ge=0)]
    bound: float | None = None
    enabled: bool = True

    def widened(self, tolerance: float) -> Self:
        """With another margin; proof is never asked against less than twice what the margin allows."""
        return self.model_copy(update={"tolerance": tolerance, "critical": max(self.critical, 2 * tolerance)})


class GateSettings(Message):
    """The gate's guardrails and levels.

    `alpha` bounds the chance of rolling back a harmless canary over a whole rollout, `beta` that of one
    guardrail passing critical harm into full exposure. `suspicion` is the e-value at which a step is not
    left yet. `effective_units` is how few equally busy callers the split between the arms may come from.
    """

    errors: GuardrailSettings = GuardrailSettings(tolerance=0.25, critical=1.5, weight=0.30)
    tail: GuardrailSettings = GuardrailSettings(tolerance=0.10, critical=0.5, weight=0.20)
    latency: GuardrailSettings = GuardrailSettings(tolerance=0.05, critical=0.2, weight=0.15)
    cost: GuardrailSettings = GuardrailSettings(tolerance=0.05, critical=0.3, weight=0.20)
    quality: GuardrailSettings = GuardrailSettings(tolerance=1.0, critical=5.0, weight=0.15)
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05
    beta: Annotated[float, Field(gt=0, lt=1)] = 0.10
    suspicion: Positive = 3.0
    min_requests: Annotated[int, Field(ge=1)] = 50
    mismatch_level: Annotated[float, Field(gt=0, lt=1)] = 0.001
    effective_units: Positive = 100.0

    def guardrail(self, key: Key) -> GuardrailSettings:
        """The guardrail of that key."""
        found: GuardrailSettings = getattr(self, key)
        return found

    @classmethod
    def from_policy(cls, policy: ServicePolicy) -> Self:
        """The settings that a service's policy asks for.

        Of a guardrail's floor or ceiling and the hard constraints on the same metric the strictest is its
        bound. Bounds in the harmless direction (a least cost, a greatest quality) are nobody's guardrail.
        """
        given = {KEY_OF[guardrail.metric]: guardrail for guardrail in policy.guardrails}
        changed = {}
        for key in KEYS:
            settings: GuardrailSettings = cls.model_fields[key].default
            guardrail = given.get(key)
            if guardrail is not None:
                if guardrail.tolerance is not None:
                    settings = settings.widened(guardrail.tolerance)
                weight = settings.weight if guardrail.weight is None else guardrail.weight
                settings = settings.model_copy(update={"weight": weight, "enabled": guardrail.enabled})
            bound = _strictest(key, _bounds(key, policy))
            changed[key] = settings.model_copy(update={"bound": bound})
        return cls.model_validate(changed)


def _bounds(key: Key, policy: ServicePolicy) -> Iterable[float | None]:
    metric = METRIC_OF[key]
    for guardrail in policy.guardrails:
        if guardrail.metric == metric:
            yield guardrail.floor if key == "quality" else guardrail.ceiling
    for constraint in policy.constraints:
        if constraint.type == "hard" and constraint.metric == metric:
            yield constraint.min if key == "quality" else constraint.max


def _strictest(key: Key, bounds: Iterable[float | None]) -> float | None:
    present = [bound for bound in bounds if bound is not None]
    if not present:
        return None
    return max(present) if key == "quality" else min(present)

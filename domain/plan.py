"""What a decision comes to: a plan with its predictions, or a reasoned skip."""

from typing import Literal

from pydantic import Field

from domain.base import Message
from domain.config import LLMConfig

Decision = Literal["optimize", "skip", "rollback"]


class Violation(Message):
    """A constraint that a configuration or plan breaches: hard ones are errors, soft ones warnings."""

    constraint: str
    severity: Literal["error", "warning"]
    message: str


class ValidationResult(Message):
    """`is_valid` when no violation is an error."""

    is_valid: bool
    violations: list[Violation]
    recommendations: list[str] | None = None

    @property
    def refusal(self) -> str:
        """Every error in a line; empty where it is valid."""
        return "; ".join(found.message for found in self.violations if found.severity == "error")


class Prediction(Message):
    """A mean with its 90 % interval, in the metric's unit, and the requests it rests on."""

    mean: float
    low: float
    high: float
    samples: int = Field(ge=0)


class Alternative(Message):
    """Another configuration that was weighed."""

    config: LLMConfig
    score: float
    predictions: dict[str, Prediction]
    tradeoffs: str
    on_pareto_front: bool


class OptimizationPlan(Message):
    """A better configuration for a service, and why.

    `expected_improvement` is a fraction per metric, positive is better; `confidence` is the probability that
    the plan beats the present configuration.
    """

    service: str
    recommended_config: LLMConfig
    expected_improvement: dict[str, float]
    predictions: dict[str, Prediction]
    confidence: float = Field(ge=0, le=1)
    rationale: str
    alternatives: list[Alternative]
    source: Literal["rule", "model"]


class ResultDeployment(Message):
    """A rollout that a run started, with its state as of the answer."""

    service: str
    deployment_id: str
    config_version: str
    status: str


class OptimizationResult(Message):
    """What a run came to. `improvements` are measured, canary against control, a fraction per metric."""

    decision: Decision
    reasoning: str
    plans: list[OptimizationPlan]
    deployments: list[ResultDeployment]
    changes_applied: bool
    improvements: dict[str, float] | None = None
    duration_ms: int

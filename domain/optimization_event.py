"""What was analysed, decided, rolled out and taken back, as the history tells it."""

from typing import Any, Literal

from domain.base import Message
from domain.config import LLMConfig
from domain.plan import Decision


class OptimizationEvent(Message):
    """One thing that happened to a service, or to another scope that was changed by hand.

    `timestamp` is when an analysis or a decision was made, when a deployment was opened, and when a rollback
    took place; a run that ended before it decided on a service has its decision at its end. `executed`: the
    decision led to a deployment, the deployment came to serve traffic. `success` is there once it is settled.
    """

    id: str
    timestamp: int
    type: Literal["analysis", "decision", "deployment", "rollback"]
    service: str
    triggered_by: Literal["timer", "threshold", "event", "manual"]
    trigger_details: dict[str, Any] | None = None
    previous_config: LLMConfig | None = None
    proposed_config: LLMConfig | None = None
    decision: Decision
    reasoning: str
    confidence: float | None = None
    predicted_improvement: dict[str, float] | None = None
    actual_improvement: dict[str, float] | None = None
    executed: bool
    execution_strategy: str | None = None
    execution_duration_ms: int | None = None
    success: bool | None = None
    errors: list[str] | None = None

"""Messages of an optimization run."""

from typing import Literal, Self

from pydantic import Field, model_validator

from domain.base import Message
from domain.config import Name
from domain.plan import OptimizationPlan, OptimizationResult
from domain.policy import Constraint, Objective, require_distinct

Phase = Literal["observe", "analyze", "decide", "act"]
PHASES: tuple[Phase, ...] = ("observe", "analyze", "decide", "act")
RunStatus = Literal["queued", "running", "completed", "failed"]


class OptimizationRequest(Message):
    """What to optimize. No services: every known one.

    Objectives replace the policy's, constraints are added to them.
    """

    services: list[Name] | None = Field(default=None, max_length=1000)
    objectives: list[Objective] | None = Field(default=None, min_length=1, max_length=20)
    constraints: list[Constraint] | None = Field(default=None, max_length=100)
    dry_run: bool = False

    @model_validator(mode="after")
    def _unambiguous(self) -> Self:
        require_distinct("objective", [objective.metric for objective in self.objectives or ()])
        require_distinct("constraint", [constraint.id for constraint in self.constraints or ()])
        return self


class OptimizationResponse(Message):
    """The answer to a trigger; `eta` is in ms."""

    optimization_id: str
    status: RunStatus
    plan: OptimizationPlan | None = None
    eta: int | None = None


class OptimizationStatus(Message):
    """Where a run is; `progress` is 0..100."""

    id: str
    status: RunStatus
    progress: int
    current_phase: Phase
    result: OptimizationResult | None = None
    error: str | None = None

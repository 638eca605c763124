"""A rollout as people see it."""

from typing import Literal

from domain.base import Message

DeploymentStatus = Literal[
    "pending",
    "awaiting_approval",
    "running",
    "paused",
    "held",
    "completed",
    "rolling_back",
    "rolled_back",
    "failed",
]
OPEN_STATUSES: tuple[DeploymentStatus, ...] = (
    "pending",
    "awaiting_approval",
    "running",
    "paused",
    "held",
    "rolling_back",
)
Verdict = Literal["continue", "healthy", "unhealthy", "inconclusive"]


class Samples(Message):
    control: int
    canary: int


class GuardrailReading(Message):
    """A guardrail at a check: both arms, their difference with its interval, the e-value of harm."""

    metric: str
    control: float | None = None
    canary: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    evidence: float
    samples: Samples


class DeploymentStep(Message):
    """A step of a rollout; `percent` is the policy's share, 100 for the last."""

    percent: float
    started_at: int | None = None
    ended_at: int | None = None
    extensions: int
    verdict: Literal["healthy", "unhealthy", "inconclusive"] | None = None
    guardrails: list[GuardrailReading]


class RollbackTrigger(Message):
    """A metric that went past its threshold."""

    metric: str
    threshold: float
    actual: float


class Rollback(Message):
    reason: str
    automatic: bool
    triggers: list[RollbackTrigger]


class Deployment(Message):
    """A rollout of a version over a scope. `progress` is 0..100, `traffic_percent` the share served now."""

    deployment_id: str
    scope: str
    strategy: str
    from_version: str
    to_version: str
    status: DeploymentStatus
    progress: float
    traffic_percent: float
    started_at: int
    ended_at: int | None = None
    reason: str
    steps: list[DeploymentStep]
    rollback: Rollback | None = None

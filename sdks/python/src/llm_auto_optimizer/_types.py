"""The API's messages, as they travel: camelCase, times in milliseconds since the epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, Union

JSON = dict[str, Any]


class _MetricRequired(TypedDict):
    timestamp: int
    service: str
    endpoint: str
    model: str
    provider: str
    latencyMs: float
    tokensInput: int
    tokensOutput: int
    tokensTotal: int
    statusCode: int


class Metric(_MetricRequired, total=False):
    """One LLM call. Without `costUsd` the server prices it; `tags.configVersion` says what served it."""

    costUsd: float
    errorType: str
    retryCount: int
    tags: dict[str, str]


class _QualityRequired(TypedDict):
    timestamp: int
    service: str
    overallScore: float
    evaluationMethod: str


class Quality(_QualityRequired, total=False):
    """A judgement of one answer, 0..100, joined to its metric by `requestId` (its `tags.requestId`)."""

    requestId: str
    configVersion: str
    dimensionScores: dict[str, float]


MetricLike = Union[Metric, Mapping[str, Any]]
QualityLike = Union[Quality, Mapping[str, Any]]


class ItemError(TypedDict):
    """Why the item at `index` of a batch was not taken."""

    index: int
    reason: str


class _IngestRequired(TypedDict):
    accepted: int
    rejected: int


class IngestResult(_IngestRequired, total=False):
    """What became of a batch."""

    errors: list[ItemError]


class Violation(TypedDict):
    constraint: str
    severity: str
    message: str


class _ValidationRequired(TypedDict):
    isValid: bool
    violations: list[Violation]


class ValidationResult(_ValidationRequired, total=False):
    recommendations: list[str]


class _ConfigUpdateRequired(TypedDict):
    success: bool
    validationResult: ValidationResult


class ConfigUpdateResult(_ConfigUpdateRequired, total=False):
    """`version` is, or will be, served; `unchanged` says that it already was."""

    version: str
    deploymentId: str
    unchanged: bool


class _ConfigVersionRequired(TypedDict):
    version: str
    scope: str
    config: JSON
    createdAt: int
    createdBy: str
    changeType: str
    reason: str


class ConfigVersion(_ConfigVersionRequired, total=False):
    """A version of a scope's configuration: what, who, when and why."""

    deploymentId: str
    derivedFrom: str


class ConfigVersions(TypedDict):
    """A page of versions, the newest first, and how many there are in all."""

    total: int
    versions: list[ConfigVersion]


class _OptimizationRequired(TypedDict):
    optimizationId: str
    status: str


class OptimizationStarted(_OptimizationRequired, total=False):
    """The answer to a trigger; `eta` in ms."""

    plan: JSON
    eta: int


class ResultDeployment(TypedDict):
    service: str
    deploymentId: str
    configVersion: str
    status: str


class _OptimizationResultRequired(TypedDict):
    decision: str
    reasoning: str
    plans: list[JSON]
    deployments: list[ResultDeployment]
    changesApplied: bool
    durationMs: int


class OptimizationResult(_OptimizationResultRequired, total=False):
    improvements: dict[str, float]


class _OptimizationStatusRequired(TypedDict):
    id: str
    status: str
    progress: float
    currentPhase: str


class OptimizationStatus(_OptimizationStatusRequired, total=False):
    result: OptimizationResult
    error: str


class Samples(TypedDict):
    control: int
    canary: int


class _GuardrailRequired(TypedDict):
    metric: str
    evidence: float
    samples: Samples


class Guardrail(_GuardrailRequired, total=False):
    """One metric of both arms; `low` and `high` bound `difference`."""

    control: float
    canary: float
    difference: float
    low: float
    high: float


class _StepRequired(TypedDict):
    percent: float
    extensions: int
    guardrails: list[Guardrail]


class Step(_StepRequired, total=False):
    startedAt: int
    endedAt: int
    verdict: str


class RollbackTrigger(TypedDict):
    metric: str
    threshold: float
    actual: float


class Rollback(TypedDict):
    reason: str
    automatic: bool
    triggers: list[RollbackTrigger]


class _DeploymentRequired(TypedDict):
    deploymentId: str
    scope: str
    strategy: str
    fromVersion: str
    toVersion: str
    status: str
    progress: float
    trafficPercent: float
    startedAt: int
    reason: str
    steps: list[Step]


class Deployment(_DeploymentRequired, total=False):
    """A rollout with its steps."""

    endedAt: int
    rollback: Rollback


class Deployments(TypedDict):
    """A page of rollouts, the newest first, and how many there are in all."""

    total: int
    deployments: list[Deployment]


class HealthCheck(TypedDict, total=False):
    name: str
    healthy: bool
    message: str
    latency: float


class Health(TypedDict):
    status: str
    version: str
    uptime: float
    checks: list[HealthCheck]


class ControlLoop(TypedDict):
    """Where the loop is; a time that never was is 0."""

    state: str
    lastRun: int
    nextRun: int


class Status(TypedDict):
    """How the optimizer's parts are doing."""

    mode: str
    controlLoop: ControlLoop
    deployments: JSON
    metrics: JSON
    resources: JSON


class _DataPointRequired(TypedDict):
    timestamp: int
    value: float


class DataPoint(_DataPointRequired, total=False):
    """A value, and where it was grouped, by what."""

    dimensions: dict[str, str]


class MetricSeries(TypedDict):
    metric: str
    dataPoints: list[DataPoint]


class MetricsQueryResult(TypedDict):
    """A series for each metric that was asked for."""

    metrics: list[MetricSeries]


class History(TypedDict):
    """A page of what the optimizer did, the newest first, and how much there is in all."""

    total: int
    events: list[JSON]


Policy = Mapping[str, Any]
Objectives = Sequence[Mapping[str, Any]]
Constraints = Sequence[Mapping[str, Any]]

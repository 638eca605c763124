"""A service's policy: what to improve, within which bounds, and how to roll a change out."""

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from domain.base import Message
from domain.conditions import Rule, Trigger
from domain.config import Name
from domain.metrics import HIGHER_IS_BETTER, SHORT_NAMES, Metric

Strategy = Literal["canary", "gradual", "immediate"]

GUARDRAIL_METRICS = ("errors.rate", "latency.p95", "latency.avg", "cost.avg", "quality.avg")
STEP_SECONDS = 300.0
CHECKS_PER_STEP = 10
MAX_CHECK_SECONDS = 30.0


class Objective(Message):
    """A metric to improve, with its weight in the whole."""

    metric: Metric
    goal: Literal["minimize", "maximize"]
    weight: float = Field(gt=0, le=1e6)


class Constraint(Message):
    """A bound. A plan never breaches a hard one; a soft one is a weighted penalty.

    Any of: bounds on `metric`, the allowed `models` (`provider/model` or `model`), a `cooldown_ms` since
    the last change. `window_ms` is the period of a total (a budget).
    """

    id: Name | None = None
    type: Literal["hard", "soft"]
    metric: Metric | None = None
    min: float | None = None
    max: float | None = None
    models: list[Name] | None = Field(default=None, min_length=1)
    cooldown_ms: int | None = Field(default=None, ge=0)
    window_ms: int | None = Field(default=None, ge=1)
    description: str | None = None
    priority: int | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        bounded = self.min is not None or self.max is not None
        if self.metric is not None and not bounded:
            raise ValueError("a constraint on a metric needs min or max")
        if bounded and self.metric is None:
            raise ValueError("min and max need a metric")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min is above max")
        if self.metric is None and self.models is None and self.cooldown_ms is None:
            raise ValueError("a constraint needs metric, models or cooldownMs")
        return self


class Range(Message):
    """A closed interval."""

    min: float
    max: float

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise ValueError("min is above max")
        return self


class IntRange(Message):
    """A closed interval of whole numbers."""

    min: int
    max: int

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise ValueError("min is above max")
        return self


class CandidateModel(Message):
    """A model that may be chosen: a public quality score (0..100), prices in USD per million tokens."""

    provider: Name
    model: Name
    score: float | None = Field(default=None, ge=0, le=100)
    price_per_m_tok_in: float | None = Field(default=None, ge=0)
    price_per_m_tok_out: float | None = Field(default=None, ge=0)
    max_output_tokens: int | None = Field(default=None, ge=1)

    @property
    def key(self) -> str:
        """`provider/model`."""
        return f"{self.provider}/{self.model}"


class SearchSpace(Message):
    """What may be varied. No models: the present one only. An absent range: not varied."""

    models: list[CandidateModel] = Field(default_factory=list, max_length=200)
    temperature: Range | None = None
    top_p: Range | None = None
    max_tokens: IntRange | None = None
    top_k: IntRange | None = None

    @model_validator(mode="after")
    def _within_bounds(self) -> Self:
        for name, interval, low, high in (
            ("temperature", self.temperature, 0, 2),
            ("topP", self.top_p, 0, 1),
            ("maxTokens", self.max_tokens, 1, 100_000_000),
            ("topK", self.top_k, 0, 1000),
        ):
            if interval is not None and not low <= interval.min <= interval.max <= high:
                raise ValueError(f"{name} must lie within {low}..{high}")
        keys = [model.key for model in self.models]
        if len(set(keys)) < len(keys):
            raise ValueError("a model is named twice")
        return self


class Guardrail(Message):
    """A health metric of a rollout.

    `tolerance` is the margin against control: a fraction for errors, latency and cost, points for quality.
    `floor` and `ceiling` are absolute bounds in the metric's own unit.
    """

    metric: Metric = Field(json_schema_extra={"enum": [*SHORT_NAMES, *GUARDRAIL_METRICS]})
    tolerance: float | None = Field(default=None, ge=0)
    floor: float | None = None
    ceiling: float | None = None
    weight: float | None = Field(default=None, gt=0)
    enabled: bool = True

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.metric not in GUARDRAIL_METRICS:
            raise ValueError(f"{self.metric} is no guardrail; one of {', '.join(GUARDRAIL_METRICS)}")
        higher = self.metric in HIGHER_IS_BETTER
        if higher and self.ceiling is not None:
            raise ValueError(f"{self.metric} takes a floor, not a ceiling")
        if not higher and self.floor is not None:
            raise ValueError(f"{self.metric} takes a ceiling, not a floor")
        return self


class RolloutPolicy(Message):
    """How a change is rolled out. `steps` are percent of the traffic.

    `check_seconds` is a tenth of the step and at most 30 where it is not given.
    """

    strategy: Strategy = "canary"
    steps: list[float] = Field(default_factory=lambda: [5.0, 25.0, 50.0, 100.0], min_length=1, max_length=50)
    step_seconds: float = Field(default=STEP_SECONDS, ge=0.1, le=30 * 86_400)
    check_seconds: float = Field(default=MAX_CHECK_SECONDS, ge=0.1, le=86_400)
    max_extensions: int = Field(default=3, ge=0, le=1000)
    on_inconclusive: Literal["hold", "rollback", "promote"] = "hold"
    approval: Literal["none", "before-start", "before-full"] = "none"
    holdback_percent: float = Field(default=5.0, ge=0, le=50)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if "check_seconds" not in self.model_fields_set:
            self.check_seconds = max(0.1, min(MAX_CHECK_SECONDS, self.step_seconds / CHECKS_PER_STEP))
            self.model_fields_set.discard("check_seconds")
        if self.check_seconds > self.step_seconds:
            raise ValueError("checkSeconds is longer than stepSeconds")
        rising = all(a < b for a, b in zip(self.steps, self.steps[1:], strict=False))
        if not rising or self.steps[0] <= 0 or self.steps[-1] != 100:
            raise ValueError("steps must rise from above 0 and end at 100")
        return self


class Schedule(Message):
    """How often the loop runs by itself."""

    every_seconds: int = Field(default=3600, ge=10, le=30 * 86_400)
    enabled: bool = False


def require_distinct(what: str, names: Sequence[str | None]) -> None:
    """Raise a ValueError where two have one name; None is no name."""
    named = [name for name in names if name is not None]
    if len(set(named)) < len(named):
        raise ValueError(f"two {what}s of one name")


def _default_objectives() -> list[Objective]:
    return [
        Objective(metric="cost.avg", goal="minimize", weight=0.5),
        Objective(metric="latency.p95", goal="minimize", weight=0.2),
        Objective(metric="quality.avg", goal="maximize", weight=0.3),
    ]


class ServicePolicy(Message):
    """Everything that a service may be told; every field has a default."""

    service: Name
    objectives: list[Objective] = Field(default_factory=_default_objectives, min_length=1, max_length=20)
    constraints: list[Constraint] = Field(default_factory=list, max_length=100)
    search_space: SearchSpace = Field(default_factory=SearchSpace)
    rules: list[Rule] = Field(default_factory=list, max_length=200)
    rollout: RolloutPolicy = Field(default_factory=RolloutPolicy)
    guardrails: list[Guardrail] = Field(default_factory=list, max_length=20)
    schedule: Schedule = Field(default_factory=Schedule)
    triggers: list[Trigger] = Field(default_factory=list, max_length=100)
    mode: Literal["weighted", "pareto"] = "weighted"
    max_rollbacks_per_day: int = Field(default=5, ge=0)
    breaker_after: int = Field(default=3, ge=1)
    retention_days: int = Field(default=90, ge=1, le=3650)
    automatic: bool = True

    @model_validator(mode="after")
    def _unambiguous(self) -> Self:
        require_distinct("objective", [objective.metric for objective in self.objectives])
        require_distinct("guardrail", [guardrail.metric for guardrail in self.guardrails])
        require_distinct("rule", [rule.id for rule in self.rules])
        require_distinct("constraint", [constraint.id for constraint in self.constraints])
        return self

    def given(self) -> dict[str, object]:
        """The fields that were given, as JSON; what was left to its default stays so."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)

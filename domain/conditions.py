"""Conditions and rules: when a policy wants something done, and what."""

from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from domain.base import Message
from domain.config import Name
from domain.metrics import Metric, WatchedMetric

Window = Literal["1m", "5m", "15m", "1h", "24h", "7d"]
WINDOW_MS: dict[Window, int] = {
    "1m": 60_000,
    "5m": 300_000,
    "15m": 900_000,
    "1h": 3_600_000,
    "24h": 86_400_000,
    "7d": 604_800_000,
}
"""The windows, the shortest first, and how long they are."""
TREND_WINDOWS: tuple[Window, ...] = ("1h", "24h", "7d")
"""The windows that have a trend: shorter ones have too few points."""
Severity = Literal["low", "medium", "high", "critical"]
SEVERITIES: tuple[Severity, ...] = ("low", "medium", "high", "critical")


class MetricCondition(Message):
    """A metric over the last window stands in a relation to a value, in each of `for_windows` windows."""

    metric: Metric
    op: Literal[">", ">=", "<", "<="]
    value: float
    window: Window
    for_windows: int | None = Field(default=None, ge=1, le=1000)


class TrendCondition(Message):
    """A metric has a significant trend in a direction; `min_change` is a fraction over the window."""

    trend: WatchedMetric
    direction: Literal["up", "down"]
    min_change: float | None = Field(default=None, ge=0)
    window: Annotated[Window, WithJsonSchema({"type": "string", "enum": [*TREND_WINDOWS]})]


class AnomalyCondition(Message):
    """An anomaly of a metric is open, of at least a severity."""

    anomaly: WatchedMetric
    min_severity: Severity | None = None


class AllCondition(Message):
    all: Annotated[list["Condition"], Field(min_length=1, max_length=32)]


class AnyCondition(Message):
    any: Annotated[list["Condition"], Field(min_length=1, max_length=32)]


class NotCondition(Message):
    not_: "Condition" = Field(alias="not")


Condition = MetricCondition | TrendCondition | AnomalyCondition | AllCondition | AnyCondition | NotCondition


class ConfigChange(Message):
    """Set some fields of the configuration."""

    type: Literal["config_change"]
    set: dict[str, Any] = Field(min_length=1)


class ModelSwitch(Message):
    type: Literal["model_switch"]
    provider: Name
    model: Name


class Alert(Message):
    type: Literal["alert"]
    severity: Severity


class RollBack(Message):
    type: Literal["rollback"]
    to_version: Name | None = None


class Experiment(Message):
    """Run the optimizer."""

    type: Literal["experiment"]


Action = Annotated[ConfigChange | ModelSwitch | Alert | RollBack | Experiment, Field(discriminator="type")]


class Rule(Message):
    """A condition and what is done when it holds for certain.

    Higher priority goes first; the optimizer's own plan stands at 0: a rule above it decides alone, one
    beside it where its plan is the better one, one below it where the optimizer has none. Without
    `cooldown_ms` a rule waits for an hour before it fires again.
    """

    id: Name
    description: str | None = None
    enabled: bool = True
    priority: int = 0
    condition: Condition
    action: Action
    cooldown_ms: int | None = Field(default=None, ge=0)
    max_per_day: int | None = Field(default=None, ge=1)


class Trigger(Message):
    """A condition that starts an optimization, not more often than its cooldown."""

    condition: Condition
    cooldown_ms: int = Field(ge=0)


AllCondition.model_rebuild()
AnyCondition.model_rebuild()
NotCondition.model_rebuild()

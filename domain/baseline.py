"""What a service's present metrics may be compared with."""

from typing import Literal

from pydantic import Field, model_validator

from domain.analytics import MAX_WINDOW_MS, Millis
from domain.base import Message
from domain.metrics import MetricName
from domain.scope import ServiceName

BaselineKind = Literal["initial", "rolling", "same-hour", "peak", "pre-change", "golden"]


class Baseline(Message):
    """Metrics of a stretch of time, measured at `created_at`, and of how many requests they are.

    `name` is `<service>/<kind>`: `initial` (its first day), `rolling` (the last day), `same-hour` (the same
    hour of the day on up to 14 days before), `peak` (the busiest hour of the last week), `pre-change` (the
    day before its present version began to be served) or `golden` (set by hand, and never changed but by
    hand).
    """

    name: str
    description: str
    created_at: int
    metrics: dict[MetricName, float]
    sample_size: int


class BaselineResponse(Message):
    """Baselines by name; a stretch without requests gives none."""

    baselines: list[Baseline]


class GoldenRequest(Message):
    """Have what a service measured in [start, end) (ms) as its golden baseline; the last day, if left out."""

    service: ServiceName
    start: Millis | None = Field(default=None, description="A day before `end`, if left out.")
    end: Millis | None = Field(default=None, description="Now, if left out.")

    @model_validator(mode="after")
    def _in_order(self) -> "GoldenRequest":
        if self.start is not None and self.end is not None:
            if self.end <= self.start:
                raise ValueError("end must be after start")
            if self.end - self.start > MAX_WINDOW_MS:
                raise ValueError("end is more than 90 days after start")
        return self

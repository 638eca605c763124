"""Questions about recorded metrics: which, over what time, by what, and how folded."""

from collections import Counter
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, WithJsonSchema, field_validator

from domain.base import Message
from domain.metrics import METRICS, SHORT_NAMES, MetricName
from domain.reports import EARLIEST_MS
from domain.scope import ServiceName

LATEST_MS = 4_102_444_800_000
"""2100-01-01: whoever asks for later does not mean milliseconds."""
MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000
MAX_WINDOW_MS = 90 * DAY_MS
MIN_INTERVAL_MS = 1_000
MAX_INTERVALS = 2_500
MAX_SERVICES = 1_000
MAX_DIMENSIONS = 5

Aggregation = Literal["avg", "sum", "min", "max", "p95", "p99"]
ShortName = Literal["latency", "cost", "quality", "errors"]
AskedMetric = MetricName | ShortName
"""A metric as it may be asked for; the answer names it in the same way."""

LABELS = ("service", "endpoint", "provider", "model", "configVersion")
TAG_PREFIX = "tags."
MAX_TAG_NAME = 128
_DIMENSION_PATTERN = rf"^({'|'.join(LABELS)}|tags\.(.|\n){{1,{MAX_TAG_NAME}}})$"


def _dimension(name: str) -> str:
    if name in LABELS:
        return name
    tag = name.removeprefix(TAG_PREFIX)
    if tag == name:
        raise ValueError(
            f"unknown dimension {name!r}: one of {', '.join(LABELS)}, or {TAG_PREFIX}{name} for a tag"
        )
    if not 0 < len(tag) <= MAX_TAG_NAME:
        raise ValueError(f"the name of a tag has 1 to {MAX_TAG_NAME} characters")
    return name


def _unlike(names: list[str]) -> list[str]:
    name, count = max(Counter(names).items(), key=lambda item: item[1], default=("", 0))
    if count > 1:
        raise ValueError(f"{name!r} is named twice")
    return names


Millis = Annotated[int, Field(ge=EARLIEST_MS, le=LATEST_MS)]
Dimension = Annotated[
    str, AfterValidator(_dimension), WithJsonSchema({"type": "string", "pattern": _DIMENSION_PATTERN})
]
Unlike = AfterValidator(_unlike)


class TimeRange(Message):
    """From `start` up to, and without, `end` (ms), by the reports' own timestamps; 90 days at most."""

    start: Millis
    end: Millis

    @field_validator("end")
    @classmethod
    def _after_start(cls, end: int, info: ValidationInfo) -> int:
        start = info.data.get("start")
        if start is None:
            return end
        if end <= start:
            raise ValueError("must be after start")
        if end - start > MAX_WINDOW_MS:
            raise ValueError(f"more than {MAX_WINDOW_MS // DAY_MS} days after start")
        return end


class MetricsQuery(Message):
    """A question about metrics.

    Without `aggregation` a metric is computed over all requests of the window or interval. With it, its
    values of the clock's minutes in which there were any are folded; a minute counts for the interval in
    which it begins. Without `interval` (ms) there is one point per group, else intervals are aligned to
    `start`. A dimension is one of the labels, or `tags.<name>` for a tag.
    """

    services: list[ServiceName] | None = Field(
        default=None, max_length=MAX_SERVICES, description="All, if empty or left out."
    )
    metrics: Annotated[list[AskedMetric], Unlike] = Field(
        min_length=1, max_length=len(METRICS) + len(SHORT_NAMES), json_schema_extra={"uniqueItems": True}
    )
    time_range: TimeRange
    aggregation: Aggregation | None = None
    group_by: Annotated[list[Dimension], Unlike] = Field(
        default_factory=list, max_length=MAX_DIMENSIONS, json_schema_extra={"uniqueItems": True}
    )
    interval: int | None = Field(default=None, ge=MIN_INTERVAL_MS, le=MAX_WINDOW_MS)

    @field_validator("interval")
    @classmethod
    def _not_too_small(cls, interval: int | None, info: ValidationInfo) -> int | None:
        window: TimeRange | None = info.data.get("time_range")
        if interval is None or window is None:
            return interval
        if info.data.get("aggregation") is not None and interval < MINUTE_MS:
            raise ValueError(f"with an aggregation, which folds minutes, at least {MINUTE_MS}")
        count = -(-(window.end - window.start) // interval)
        if count > MAX_INTERVALS:
            enough = -(-(window.end - window.start) // MAX_INTERVALS)
            raise ValueError(
                f"{count:,} intervals are more than {MAX_INTERVALS:,}; at least {enough} would do"
            )
        return interval

    @property
    def length(self) -> int:
        """The length of an interval (ms), that of the whole window if there is but one."""
        return self.interval or self.time_range.end - self.time_range.start

    @property
    def starts(self) -> range:
        """When each interval starts (ms)."""
        return range(self.time_range.start, self.time_range.end, self.length)

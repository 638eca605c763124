"""Names of metrics. Objectives, constraints, queries and guardrails use the same ones."""

from typing import Annotated, Literal

from pydantic import AfterValidator, WithJsonSchema

MetricName = Literal[
    "latency.avg",
    "latency.p50",
    "latency.p95",
    "latency.p99",
    "cost.avg",
    "cost.total",
    "quality.avg",
    "errors.rate",
    "errors.count",
    "tokens.input",
    "tokens.output",
    "tokens.total",
    "requests.count",
    "requests.rate",
]
METRICS: tuple[str, ...] = MetricName.__args__  # type: ignore[attr-defined]  # a Literal's values
"""latency in ms, cost in USD, quality 0..100, errors.rate 0..1, requests.rate per second."""

SHORT_NAMES = {
    "latency": "latency.p95",
    "cost": "cost.avg",
    "quality": "quality.avg",
    "errors": "errors.rate",
}

HIGHER_IS_BETTER = frozenset({"quality.avg"})

HIGHEST = {"errors.rate": 1.0, "quality.avg": 100.0}
"""The most that a metric can be, where there is such a thing; none is negative."""


def canonical(name: str) -> str:
    """The full name of a metric: `latency` alone is `latency.p95`, and so on.

    Raises:
        ValueError: no such metric.
    """
    full = SHORT_NAMES.get(name, name)
    if full not in METRICS:
        raise ValueError(f"unknown metric {name!r}; one of {', '.join((*SHORT_NAMES, *METRICS))}")
    return full


Metric = Annotated[
    str,
    AfterValidator(canonical),
    WithJsonSchema({"type": "string", "enum": [*SHORT_NAMES, *METRICS]}),
]
"""A metric's name in a message; short names are written out."""

WATCHED = (
    "latency.p95",
    "latency.avg",
    "cost.avg",
    "errors.rate",
    "quality.avg",
    "tokens.output",
    "requests.rate",
)
"""What anomalies and trends are looked for in."""

WatchedMetric = Annotated[Metric, WithJsonSchema({"type": "string", "enum": [*SHORT_NAMES, *WATCHED]})]
"""A metric that can have an anomaly or a trend; `domain.rules.validation` refuses the others."""


def is_error(status_code: int, error_type: str | None) -> bool:
    """Whether a call failed: a status of 400 or more, or an error type."""
    return status_code >= 400 or error_type is not None

"""What a service's present metrics may be compared with."""

from domain.base import Message
from domain.metrics import MetricName


class Baseline(Message):
    """Metrics of a stretch of time that ended at `created_at`, and of how many requests they are.

    `name` is `<service>/<kind>`: `initial` (its first day), `rolling` (the last day) or `pre-change` (the day
    before its present version began to be served).
    """

    name: str
    description: str
    created_at: int
    metrics: dict[MetricName, float]
    sample_size: int


class BaselineResponse(Message):
    """Baselines by name; a stretch without requests gives none."""

    baselines: list[Baseline]

"""What is kept and told of an anomaly."""

from typing import Literal

from domain.base import Message
from domain.conditions import Severity

Direction = Literal["up", "down"]
DetectorType = Literal["ewma_fast", "ewma_slow", "seasonal"]


class Anomaly(Message):
    """An episode in which a metric left its expected range.

    `value` is the furthest that was seen beyond the range `low` to `high`, which is the one expected when the
    episode began. `strength` is the detector's greatest, `windows` counts those beyond the range, the last of
    them at `last_at`. `ended_at` is absent while it goes on.
    """

    metric: str
    direction: Direction
    harmful: bool
    severity: Severity
    confidence: float
    detector: DetectorType
    strength: float
    value: float
    low: float
    high: float
    started_at: int
    last_at: int
    ended_at: int | None = None
    windows: int = 1

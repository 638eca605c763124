"""Counts what was sent: per phase of the replay and per version that served it."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from cli.replaying.traffic import Served

Phase = Literal["before", "rollout", "after"]
Arm = Literal["control", "canary"]


@dataclass(slots=True)
class Totals:
    """Sums over the requests of one kind. A cost that is not known makes their average unknown."""

    version: str
    model: str
    cost_usd: float | None = 0.0
    latencies_ms: list[float] = field(default_factory=list)
    quality: float = 0.0

    @property
    def requests(self) -> int:
        return len(self.latencies_ms)

    @property
    def cost_avg(self) -> float | None:
        """USD per request."""
        return None if self.cost_usd is None else self.cost_usd / self.requests

    def add(self, served: Served, cost_usd: float | None) -> None:
        self.latencies_ms.append(served.latency_ms)
        self.quality += served.quality
        self.cost_usd = None if self.cost_usd is None or cost_usd is None else self.cost_usd + cost_usd

    def to_json(self) -> dict[str, Any]:
        """Under the API's short metric names: USD per request, p95 in ms, 0..1, 0..100, and the mean latency.
        No request of a replay fails."""
        return {
            "version": self.version,
            "model": self.model,
            "requests": self.requests,
            "cost": self.cost_avg,
            "latency": float(np.quantile(self.latencies_ms, 0.95)),
            "latencyAvg": float(np.mean(self.latencies_ms)),
            "errors": 0.0,
            "quality": self.quality / self.requests,
        }


class Tally:
    """What each phase sent: the arms while a rollout ran, what was served to all before and after it.

    One thread may count while another reads.
    """

    def __init__(self) -> None:
        self.sent = 0
        self._kinds: dict[tuple[Phase, Arm | None, str], Totals] = {}

    def add(
        self, phase: Phase, arm: Arm | None, version: str, model: str, served: Served, cost_usd: float | None
    ) -> None:
        """Counts a request that the server has taken."""
        totals = self._kinds.setdefault((phase, arm, version), Totals(version, model))
        totals.add(served, cost_usd)
        self.sent += 1

    def arm(self, arm: Arm) -> Totals | None:
        """What an arm served, over all of the rollout."""
        return self._largest([t for (_, a, _), t in self._kinds.items() if a == arm])

    def phase(self, phase: Phase) -> Totals | None:
        """What was served to all in a phase, by the version that served the most of it."""
        return self._largest([t for (p, a, _), t in self._kinds.items() if p == phase and a is None])

    @staticmethod
    def _largest(kinds: list[Totals]) -> Totals | None:
        return max(kinds, key=lambda totals: totals.requests, default=None)

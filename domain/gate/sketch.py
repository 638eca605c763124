"""A weighted quantile sketch of latencies: a histogram with bins of equal ratio."""

from collections.abc import Sequence
from math import exp, log

import numpy as np
from pydantic import Field

from domain.base import Message

_BIN = log(1.05)
# A latency below a millisecond counts as one.
SHORTEST_MS = 1.0


class Sketch(Message):
    """Weights of the bins [1.05^i, 1.05^(i+1)) ms from i = `first` on; quantiles are interpolated in them."""

    first: int = 0
    weights: list[float] = Field(default_factory=list)

    def add(self, latency_ms: np.ndarray, weight: float) -> "Sketch":
        """This and `latency_ms` (milliseconds), each counted with `weight`."""
        if latency_ms.size == 0:
            return self
        bins = np.floor(np.log(np.maximum(latency_ms, SHORTEST_MS)) / _BIN).astype(int)
        low, high = int(bins.min()), int(bins.max())
        if self.weights:
            low, high = min(low, self.first), max(high, self.first + len(self.weights) - 1)
        sums = weight * np.bincount(bins - low, minlength=high - low + 1)
        offset = self.first - low
        sums[offset : offset + len(self.weights)] += self.weights
        return Sketch.model_construct(first=low, weights=np.round(sums, 3).tolist())

    def quantiles(self, at: Sequence[float]) -> list[float | None]:
        """Latencies (ms) at the probabilities `at`; None outside (0, 1), or where nothing was added."""
        cumulative = np.cumsum(self.weights)
        if cumulative.size == 0 or cumulative[-1] <= 0:
            return [None] * len(at)
        return [self._quantile(cumulative, p) if 0 < p < 1 else None for p in at]

    def _quantile(self, cumulative: np.ndarray, p: float) -> float:
        goal = p * float(cumulative[-1])
        index = int(np.searchsorted(cumulative, goal))
        before = float(cumulative[index - 1]) if index else 0.0
        inside = (goal - before) / (float(cumulative[index]) - before)
        return exp((self.first + index + inside) * _BIN)

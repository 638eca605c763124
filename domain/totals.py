"""What requests and scores come to: counts, sums and sketches, from which every metric follows."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from math import sqrt
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domain.sketches import Sketch, quantiles_of

AMOUNTS = ("latency", "cost", "tokens_input", "tokens_output", "tokens_total", "quality")
PERCENTILES = {"latency.p50": 0.50, "latency.p95": 0.95, "latency.p99": 0.99}


@dataclass(frozen=True, slots=True)
class Amount:
    """Values of one kind: how many, their sum, that of their squares, and their sketch, if asked for."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0
    sketch: Sketch | None = None

    @classmethod
    def of(cls, values: Sequence[float] | NDArray[Any]) -> "Amount":
        """The amount of finite values, with its sketch."""
        array = np.asarray(values, dtype=np.float64)
        return cls(array.size, float(array.sum()), float(array @ array), Sketch.of_values(array))

    def __add__(self, other: "Amount") -> "Amount":
        """Both together; with a sketch, where each that has values has one."""
        sketches = [amount.sketch for amount in (self, other) if amount.n]
        known = [sketch for sketch in sketches if sketch is not None]
        sketch = reduce(add, known) if known and len(known) == len(sketches) else None
        return Amount(self.n + other.n, self.total + other.total, self.squares + other.squares, sketch)

    @property
    def mean(self) -> float:
        """The mean; there must be a value."""
        return self.total / self.n

    @property
    def standard_error(self) -> float:
        """That of the mean; of a single value it is taken as large as the value."""
        if self.n == 1:
            return abs(self.total)
        variance = max(self.squares - self.total * self.mean, 0.0) / (self.n - 1)
        return sqrt(variance / self.n)


@dataclass(frozen=True, slots=True)
class Totals:
    """`n` requests, `errors` of which failed, the last at `last_at` (ms, None without any), and scores.

    `latency` (ms) and tokens are those of successes, `cost` (USD) that of the calls whose cost is known,
    `quality` (0..100) that of scores, of which `extremes` are 0 or 100.
    """

    n: int = 0
    errors: int = 0
    last_at: int | None = None
    latency: Amount = Amount()
    cost: Amount = Amount()
    tokens_input: Amount = Amount()
    tokens_output: Amount = Amount()
    tokens_total: Amount = Amount()
    quality: Amount = Amount()
    extremes: int = 0

    def __add__(self, other: "Totals") -> "Totals":
        """Both together."""
        last = [at for at in (self.last_at, other.last_at) if at is not None]
        return Totals(
            n=self.n + other.n,
            errors=self.errors + other.errors,
            last_at=max(last, default=None),
            extremes=self.extremes + other.extremes,
            **{name: getattr(self, name) + getattr(other, name) for name in AMOUNTS},
        )

    def of_requests(self, seconds: float) -> dict[str, float]:
        """The metrics of the requests of so many seconds; what is not known is left out."""
        (found,) = of_requests([(self, seconds)])
        return found

    def of_scores(self) -> dict[str, float]:
        """The metrics of the scores."""
        return {"quality.avg": self.quality.mean} if self.quality.n else {}


def of_requests(given: Sequence[tuple[Totals, float]]) -> list[dict[str, float]]:
    """`Totals.of_requests` of many at once."""
    told = [totals.latency.sketch if totals.n and totals.latency.n else None for totals, _ in given]
    values = iter(quantiles_of([sketch for sketch in told if sketch], list(PERCENTILES.values())).tolist())
    return [
        _of_requests(totals, seconds) | (dict(zip(PERCENTILES, next(values), strict=True)) if sketch else {})
        for (totals, seconds), sketch in zip(given, told, strict=True)
    ]


def _of_requests(totals: Totals, seconds: float) -> dict[str, float]:
    """All but the percentiles."""
    if not totals.n:
        return {}
    found = {
        "requests.count": float(totals.n),
        "requests.rate": totals.n / seconds,
        "errors.count": float(totals.errors),
        "errors.rate": totals.errors / totals.n,
    }
    means = {
        "latency.avg": totals.latency,
        "tokens.input": totals.tokens_input,
        "tokens.output": totals.tokens_output,
        "tokens.total": totals.tokens_total,
    }
    found |= {name: amount.mean for name, amount in means.items() if amount.n}
    if totals.cost.n:
        found |= {"cost.avg": totals.cost.mean, "cost.total": totals.cost.total}
    return found

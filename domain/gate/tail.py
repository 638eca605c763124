"""The latency tail: slow requests counted against control's own recent quantiles.

A request is slow in control if it took longer than T_q, control's q-quantile in earlier buckets, and slow in
the canary beyond T_q plus the margin. Since T_q is settled before the bucket opens, the count test holds
whatever the distribution is.
"""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from domain.base import Message
from domain.gate.counts import Count, ratio_step
from domain.gate.settings import GuardrailSettings
from domain.gate.sketch import SHORTEST_MS, Sketch

QUANTILES = (0.90, 0.95, 0.99)
MULTIPLES = (1.2, 1.5, 2.0, 3.0, 5.0, 10.0)
# What the ceiling on latency.p95 is about.
P95 = 0.95
RESERVOIR = 1000
MIN_RESERVOIR = 100

_CELLS = len(QUANTILES) * len(MULTIPLES)
Grid = Annotated[list[float], Field(min_length=_CELLS, max_length=_CELLS)]


def _zeros() -> list[float]:
    return [0.0] * _CELLS


class TailState(Message):
    """Control's last 1,000 latencies of closed buckets (ms, three digits), and what was counted so far.

    `harm` and `proof` are ln L per quantile and ratio. `over` and `over_worse` count the canary's `n`
    successes above the ceiling and above the ceiling worsened by the critical harm, and `alone` sketches
    them all; none of the three without a ceiling. `control` and `canary` sketch the buckets that both
    had successes in.
    """

    recent: list[int] = Field(default_factory=list, max_length=RESERVOIR)
    harm: Grid = Field(default_factory=_zeros)
    proof: Grid = Field(default_factory=_zeros)
    n: int = 0
    over: int = 0
    over_worse: int = 0
    control: Sketch = Field(default_factory=Sketch)
    canary: Sketch = Field(default_factory=Sketch)
    alone: Sketch = Field(default_factory=Sketch)

    def add(
        self, control: np.ndarray, canary: np.ndarray, settings: GuardrailSettings, seed: int
    ) -> "TailState":
        """This and one more bucket's latencies (ms); `seed` is the bucket's id."""
        harm, proof = self._steps(control, canary, settings)
        both = control.size and canary.size
        share = canary.size / (control.size + canary.size) if both else 0.0
        ceiling = settings.bound
        worse = None if ceiling is None else ceiling * (1 + settings.critical)
        return TailState.model_construct(
            recent=_remembered(self.recent, control, seed),
            harm=(np.asarray(self.harm) + harm).tolist(),
            proof=(np.asarray(self.proof) + proof).tolist(),
            n=self.n + canary.size,
            over=self.over + _above(canary, ceiling),
            over_worse=self.over_worse + _above(canary, worse),
            # Each latency weighs w/n of its arm, so that both sketches have one mix of times.
            control=self.control.add(control, share) if both else self.control,
            canary=self.canary.add(canary, 1 - share) if both else self.canary,
            alone=self.alone if ceiling is None else self.alone.add(canary, 1.0),
        )

    def _steps(
        self, control: np.ndarray, canary: np.ndarray, settings: GuardrailSettings
    ) -> tuple[np.ndarray, np.ndarray]:
        harm, proof = np.zeros(_CELLS), np.zeros(_CELLS)
        if len(self.recent) < MIN_RESERVOIR:
            return harm, proof
        width = len(MULTIPLES)
        for i, threshold in enumerate(np.quantile(self.recent, QUANTILES)):
            slow_control = Count(_above(control, threshold), control.size)
            slow_canary = Count(_above(canary, threshold * (1 + settings.tolerance)), canary.size)
            very_slow_canary = Count(_above(canary, threshold * (1 + settings.critical)), canary.size)
            cells = slice(i * width, (i + 1) * width)
            harm[cells] = ratio_step(slow_canary, slow_control, 1.0, MULTIPLES)
            proof[cells] = ratio_step(slow_control, very_slow_canary, 1.0, MULTIPLES)
        return harm, proof


def _above(latency_ms: np.ndarray, threshold: float | None) -> int:
    return 0 if threshold is None else int(np.count_nonzero(latency_ms > threshold))


def _remembered(recent: Sequence[int], latency_ms: np.ndarray, seed: int) -> list[int]:
    # Shuffled, so that neither a bucket larger than the reservoir nor one that is half pushed out of it
    # leaves only its slow part behind when the caller sorts.
    order = np.random.default_rng(abs(seed)).permutation(latency_ms.size)[-RESERVOIR:]
    kept = np.maximum(latency_ms[order], SHORTEST_MS)
    unit = np.maximum(10.0 ** (np.floor(np.log10(kept)) - 2), 1.0)
    rounded: list[int] = (np.rint(kept / unit) * unit).astype(int).tolist()
    return [*recent, *rounded][-RESERVOIR:]

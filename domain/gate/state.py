"""What the gate remembers of a rollout: one small JSON value."""

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from domain.base import Message
from domain.gate.bucket import Bucket
from domain.gate.counts import Count
from domain.gate.errors import ErrorState
from domain.gate.means import ArmSums, Moments, PairSums
from domain.gate.settings import GateSettings
from domain.gate.sketch import SHORTEST_MS
from domain.gate.split import SplitState
from domain.gate.tail import TailState


class MeanState(Message):
    """A metric's values: of both arms where both have some, and of the canary alone."""

    pair: PairSums = Field(default_factory=PairSums)
    canary: ArmSums = Field(default_factory=ArmSums)

    def add(self, control: Sequence[float] | np.ndarray, canary: Sequence[float] | np.ndarray) -> "MeanState":
        """This and one more bucket's values."""
        moments = Moments.of(canary)
        return MeanState.model_construct(
            pair=self.pair.add(Moments.of(control), moments), canary=self.canary.add(moments)
        )


class GateState(Message):
    """A rollout as the gate has seen it, up to and with bucket `last_bucket`; some 10 kB as JSON."""

    last_bucket: int | None = None
    errors: ErrorState = Field(default_factory=ErrorState)
    tail: TailState = Field(default_factory=TailState)
    latency: MeanState = Field(default_factory=MeanState)
    ln_latency: PairSums = Field(default_factory=PairSums)
    cost: MeanState = Field(default_factory=MeanState)
    quality: MeanState = Field(default_factory=MeanState)
    split: SplitState = Field(default_factory=SplitState)

    @property
    def canary_requests(self) -> int:
        """Requests that the canary has answered so far."""
        return self.errors.n


def observe(state: GateState, bucket: Bucket, settings: GateSettings) -> GateState:
    """The state with one more closed bucket.

    A bucket whose id is not above the last one's is closed already: the state comes back as it was.
    """
    if state.last_bucket is not None and bucket.id <= state.last_bucket:
        return state
    control, canary = bucket.control, bucket.canary
    control_ms, canary_ms = np.asarray(control.latency_ms), np.asarray(canary.latency_ms)
    return GateState.model_construct(
        last_bucket=bucket.id,
        errors=state.errors.add(
            Count(control.errors, control.n), Count(canary.errors, canary.n), settings.errors
        ),
        tail=state.tail.add(control_ms, canary_ms, settings.tail, seed=bucket.id),
        latency=state.latency.add(control_ms, canary_ms),
        ln_latency=state.ln_latency.add(Moments.of(_ln(control_ms)), Moments.of(_ln(canary_ms))),
        cost=state.cost.add(control.cost_usd, canary.cost_usd),
        quality=state.quality.add(control.quality, canary.quality),
        split=state.split.add(bucket.share, control.n, canary.n),
    )


def _ln(latency_ms: np.ndarray) -> np.ndarray:
    shortened: np.ndarray = np.log(np.maximum(latency_ms, SHORTEST_MS))
    return shortened

"""A metric's values over time, made fit for a test."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

# Far beyond any real value, and small enough that sums of squares stay finite.
LARGEST = 1e12
# Differences below so small a part of the largest value are rounding.
ROUNDING = 1e-9
# Far below any real difference, and large enough that its square is not 0.
SMALLEST = 1e-100


def is_constant(values: NDArray[np.float64]) -> bool:
    """Whether values differ by no more than rounding; of none, yes."""
    if values.size == 0:
        return True
    low, high = float(values.min()), float(values.max())
    return high - low <= max(ROUNDING * max(abs(low), abs(high)), SMALLEST)


@dataclass(frozen=True, slots=True)
class Series:
    """Finite values at strictly growing times (ms since the epoch), one per window that had any."""

    times: NDArray[np.int64]
    values: NDArray[np.float64]

    @classmethod
    def of(
        cls, times: Sequence[int] | NDArray[np.int64], values: Sequence[float] | NDArray[np.float64]
    ) -> Self:
        """What was read, in any order.

        Values that are not finite, or past 1e12 in size, are left out; values of one time are averaged.

        Raises:
            ValueError: not as many times as values.
        """
        at, found = np.asarray(times, dtype=np.int64), np.asarray(values, dtype=np.float64)
        if at.shape != found.shape or at.ndim != 1:
            raise ValueError(f"{at.size} times for {found.size} values")
        usable = np.abs(found) <= LARGEST
        if not usable.all():
            at, found = at[usable], found[usable]
        if at.size > 1 and not (np.diff(at) > 0).all():
            at, which = np.unique(at, return_inverse=True)
            found = np.bincount(which, found) / np.bincount(which)
        return cls(at, found)

    def __len__(self) -> int:
        return self.times.size

    @property
    def step(self) -> int:
        """The median distance of neighbours (ms); 1 where there are none."""
        return int(np.median(np.diff(self.times))) if len(self) > 1 else 1

    @property
    def adjacent(self) -> NDArray[np.bool_]:
        """Of each point but the last, whether the next one follows without a gap."""
        gaps = np.diff(self.times)
        if gaps.size == 0 or gaps.max() <= 1.5 * gaps.min():
            return np.ones(gaps.size, dtype=bool)
        return gaps <= 1.5 * float(np.median(gaps))

    def thinned(self, most: int) -> "Series":
        """At most so many points, each the average of a stretch; stretches are equally long."""
        if len(self) <= most:
            return self
        span = int(self.times[-1] - self.times[0])
        width = max(-(-len(self) // most) * self.step, span / most)
        stretch = np.minimum((self.times - self.times[0]) / width, most - 1).astype(np.int64)
        first = int(self.times[0])
        counts = np.bincount(stretch)
        held = counts > 0
        at = np.bincount(stretch, self.times - first)[held] / counts[held]
        return Series(first + at.astype(np.int64), np.bincount(stretch, self.values)[held] / counts[held])

"""Quantile sketches that merge: histograms with bins of equal ratio.

A value x > 0 falls into bin ceil(ln x / ln 1.02); told by the middle of its bin it is at most 1 % off. What
is not greater than 1e-12 is nil and has a bin of its own. (Masson, Rim, Lee 2019, without collapsing.)

As bytes a sketch is a sequence of pairs, a bin (int16) and a count (uint32), both big-endian, in any order
and with repetitions: sketches are merged by joining their bytes, which PostgreSQL can do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np
from numpy.typing import NDArray

GAMMA = 1.02
RELATIVE_ERROR = (GAMMA - 1) / (GAMMA + 1)
LN_GAMMA = log(GAMMA)
SMALLEST = 1e-12
ZERO_BIN = -32768
PAIR = np.dtype([("bin", ">i2"), ("n", ">u4")])


@dataclass(frozen=True, slots=True)
class Sketch:
    """Counts by bin: `bins` ascending and distinct, `counts` as many, both whole numbers."""

    bins: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def of_bytes(cls, pairs: bytes | None) -> "Sketch":
        """A sketch, or several joined ones, merged."""
        read = np.frombuffer(pairs or b"", dtype=PAIR)
        offsets = read["bin"].astype(np.int64) - ZERO_BIN
        # A count of every possible bin is quicker than sorting, except for a few pairs.
        if offsets.size < 2048:
            found, where = np.unique(offsets, return_inverse=True)
            return cls(found + ZERO_BIN, np.bincount(where, read["n"], found.size).astype(np.int64))
        low = int(offsets.min())
        counts = np.bincount(offsets - low, read["n"]).astype(np.int64)
        present = np.flatnonzero(counts)
        return cls(present + low + ZERO_BIN, counts[present])

    @classmethod
    def of_values(cls, values: Sequence[float] | NDArray[Any]) -> "Sketch":
        """The sketch of finite values."""
        array = np.asarray(values, dtype=np.float64)
        bins = np.full(array.size, ZERO_BIN, dtype=np.int64)
        positive = array > SMALLEST
        bins[positive] = np.ceil(np.log(array[positive]) / LN_GAMMA)
        found, counts = np.unique(bins, return_counts=True)
        return cls(found, counts.astype(np.int64))

    def to_bytes(self) -> bytes:
        """The distinct pairs, ascending."""
        pairs = np.empty(self.bins.size, dtype=PAIR)
        pairs["bin"], pairs["n"] = self.bins, self.counts
        return pairs.tobytes()

    def __add__(self, other: "Sketch") -> "Sketch":
        """The sketch of the values of both."""
        return Sketch.of_bytes(self.to_bytes() + other.to_bytes())

    @property
    def n(self) -> int:
        """How many values there are."""
        return int(self.counts.sum())

    @property
    def values(self) -> NDArray[np.float64]:
        """What each bin's values are told as."""
        told = np.power(GAMMA, self.bins.astype(np.float64)) * (2 / (1 + GAMMA))
        return np.where(self.bins == ZERO_BIN, 0.0, told)

    def quantiles(self, shares: Sequence[float] | NDArray[Any]) -> NDArray[np.float64]:
        """The quantiles at some shares (0..1), between neighbours as `percentile_cont` has them.

        Each of the two neighbours is at most 1 % off, and so is what lies between. NaN without any value.
        """
        wanted = np.asarray(shares, dtype=np.float64)
        if not self.bins.size:
            return np.full(wanted.shape, np.nan)
        until, values = np.cumsum(self.counts), self.values
        rank = wanted * (until[-1] - 1)
        below = np.floor(rank)
        low = values[np.searchsorted(until, below, side="right")]
        high = values[np.searchsorted(until, np.minimum(below + 1, until[-1] - 1), side="right")]
        return np.asarray(low + (rank - below) * (high - low), dtype=np.float64)

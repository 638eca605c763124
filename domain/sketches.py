"""Quantile sketches that merge: histograms with bins of equal ratio.

A value x > 0 falls into bin ceil(ln x / ln 1.02); told by the middle of its bin it is at most 1 % off. What
is not greater than 1e-12 is nil and has a bin of its own. (Masson, Rim, Lee 2019, without collapsing.)

As bytes a sketch is a sequence of pairs, a bin (int16) and a count (uint32), both big-endian, in any order
and with repetitions: sketches are merged by joining their bytes, which PostgreSQL can do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log
from typing import Any

import numpy as np
from numpy.typing import NDArray

GAMMA = 1.02
RELATIVE_ERROR = (GAMMA - 1) / (GAMMA + 1)
LN_GAMMA = log(GAMMA)
SMALLEST = 1e-12
ZERO_BIN = -32768
BINS = 65536
MANY_PAIRS = 2048
PAIR = np.dtype([("bin", ">i2"), ("n", ">u4")])


@dataclass(frozen=True, slots=True)
class Sketch:
    """Counts by bin: `bins` ascending and distinct, `counts` as many, both whole numbers."""

    bins: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def of_bytes(cls, pairs: bytes | None) -> "Sketch":
        """A sketch, or several joined ones, merged."""
        (sketch,) = cls.of_many([pairs])
        return sketch

    @classmethod
    def of_many(cls, joined: Sequence[bytes | None]) -> "list[Sketch]":
        """A sketch of each of some bytes, as `of_bytes`; many small ones take little longer than one."""
        given = [pairs or b"" for pairs in joined]
        # A count of every possible bin is quicker than sorting, except for a few pairs.
        large = [len(pairs) >= MANY_PAIRS * PAIR.itemsize for pairs in given]
        small = iter(
            cls._sorted([pairs for pairs, is_large in zip(given, large, strict=True) if not is_large])
        )
        return [
            cls._counted(pairs) if is_large else next(small)
            for pairs, is_large in zip(given, large, strict=True)
        ]

    @classmethod
    def _sorted(cls, given: Sequence[bytes]) -> "list[Sketch]":
        read = np.frombuffer(b"".join(given), dtype=PAIR)
        lengths = [len(pairs) // PAIR.itemsize for pairs in given]
        owners = np.repeat(np.arange(len(given)), lengths)
        keys, where = np.unique(
            owners * BINS + (read["bin"].astype(np.int64) - ZERO_BIN), return_inverse=True
        )
        counts = np.bincount(where, read["n"], keys.size).astype(np.int64)
        bins = keys % BINS + ZERO_BIN
        ends = np.searchsorted(keys, np.arange(1, len(given) + 1) * BINS).tolist()
        return [cls(bins[i:j], counts[i:j]) for i, j in pairwise([0, *ends])]

    @classmethod
    def _counted(cls, pairs: bytes) -> "Sketch":
        read = np.frombuffer(pairs, dtype=PAIR)
        offsets = read["bin"].astype(np.int64) - ZERO_BIN
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
        return _told(self.bins)

    def quantiles(self, shares: Sequence[float] | NDArray[Any]) -> NDArray[np.float64]:
        """The quantiles at some shares (0..1), between neighbours as `percentile_cont` has them.

        Each of the two neighbours is at most 1 % off, and so is what lies between. NaN without any value.
        """
        (found,) = quantiles_of([self], shares)
        return np.asarray(found)


def quantiles_of(sketches: Sequence[Sketch], shares: Sequence[float] | NDArray[Any]) -> NDArray[np.float64]:
    """`Sketch.quantiles` of many at once, a row for each: for small ones, that is far quicker."""
    wanted = np.asarray(shares, dtype=np.float64)
    until = np.cumsum(np.concatenate([[0], *(sketch.counts for sketch in sketches)]))
    bins = np.concatenate([[ZERO_BIN], *(sketch.bins for sketch in sketches)])
    ends = until[np.cumsum(np.array([sketch.bins.size for sketch in sketches], dtype=np.int64))]
    begins = np.concatenate([[0], ends[:-1]])
    last = (ends - begins - 1)[:, None]
    rank = wanted * last
    below = np.floor(rank)
    neighbours = begins[:, None] + np.stack((below, np.minimum(below + 1, last)))
    where = np.minimum(np.searchsorted(until, neighbours, side="right"), bins.size - 1)
    low, high = _told(bins[where])
    return np.where(last < 0, np.nan, low + (rank - below) * (high - low))


def _told(bins: NDArray[np.int64]) -> NDArray[np.float64]:
    told = np.power(GAMMA, bins.astype(np.float64)) * (2 / (1 + GAMMA))
    return np.where(bins == ZERO_BIN, 0.0, told)

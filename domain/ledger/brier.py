"""Whether confidence can be believed: the Brier score and what it is made of."""

from collections.abc import Sequence

import numpy as np

from domain.base import Message
from domain.ledger.calibration import Share, share, too_few

BINS = 5


class ReliabilityBin(Message):
    """Plans whose confidence lies in [`low`, `high`), the last bin closed, and how often they came true."""

    low: float
    high: float
    plans: int
    confidence: float | None = None
    came_true: Share | None = None


class Confidence(Message):
    """Confidence against outcomes of `plans` plans.

    `brier` is the mean squared difference of the confidence from 1 (came true) or 0 (did not): 0 is perfect,
    0.25 what saying ½ always gets. It is reliability - resolution + uncertainty + within_bins: how far each
    bin's mean confidence is from how often it came true (Murphy 1973), how far the bins differ from the
    whole, what always saying the `base_rate` would score, and what is left as confidences differ within a bin
    (Stephenson, Coelho & Jolliffe 2008). `note` says so where there are too few to tell.
    """

    plans: int
    base_rate: float | None = None
    brier: float | None = None
    reliability: float | None = None
    resolution: float | None = None
    uncertainty: float | None = None
    within_bins: float | None = None
    bins: list[ReliabilityBin]
    note: str | None = None


def confidence_score(confidences: Sequence[float], came_true: Sequence[bool]) -> Confidence:
    """The score of confidences (0..1) against what came of them, one outcome each."""
    p, y = np.asarray(confidences, dtype=np.float64), np.asarray(came_true, dtype=np.float64)
    index = np.minimum((p * BINS).astype(np.int64), BINS - 1)
    groups = [index == number for number in range(BINS)]
    bins = [_bin(number, p[group], y[group]) for number, group in enumerate(groups)]
    n = p.size
    if n == 0:
        return Confidence(plans=0, bins=bins, note=too_few(0))
    filled = [group for group in groups if group.any()]
    size = np.array([group.sum() for group in filled])
    said = np.array([p[group].mean() for group in filled])
    seen = np.array([y[group].mean() for group in filled])
    base = float(y.mean())
    brier = float(np.mean((p - y) ** 2))
    reliability = float(size @ (said - seen) ** 2) / n
    resolution = float(size @ (seen - base) ** 2) / n
    uncertainty = base * (1 - base)
    return Confidence(
        plans=n,
        base_rate=base,
        brier=brier,
        reliability=reliability,
        resolution=resolution,
        uncertainty=uncertainty,
        within_bins=_within(p, y, filled),
        bins=bins,
        note=too_few(n),
    )


def _bin(number: int, p: np.ndarray, y: np.ndarray) -> ReliabilityBin:
    return ReliabilityBin(
        low=number / BINS,
        high=(number + 1) / BINS,
        plans=p.size,
        confidence=float(p.mean()) if p.size else None,
        came_true=share(int(y.sum()), p.size),
    )


def _within(p: np.ndarray, y: np.ndarray, groups: Sequence[np.ndarray]) -> float:
    """The variance of the confidences within bins, less twice their covariance with the outcomes."""
    total = 0.0
    for group in groups:
        apart = p[group] - p[group].mean()
        total += float(apart @ apart - 2 * apart @ (y[group] - y[group].mean()))
    return total / p.size

"""Tests of proportions by e-processes: canary against control, and one arm against a bound.

An e-process starts at 1, and under its null hypothesis its expectation at any stopping time is at most 1, so
that it exceeds 1/a with a probability of at most a however often one looks (Ville).
"""

from collections.abc import Sequence
from math import exp, log
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Beyond this, more evidence says no more, and sums of it stay finite.
LARGEST_EVIDENCE = 1e12


class Count(NamedTuple):
    """`events` among `trials`."""

    events: int
    trials: int


def evidence(ln_e: float) -> float:
    """An e-value from its logarithm, at most 1e12."""
    return LARGEST_EVIDENCE if ln_e >= log(LARGEST_EVIDENCE) else exp(ln_e)


def mixture(ln_l: Sequence[float]) -> float:
    """The e-value of a uniform mixture of e-processes, given their logarithms."""
    array = np.asarray(ln_l)
    top = float(array.max())
    return evidence(top + log(float(np.exp(array - top).mean())))


def ratio_step(
    first: Count, second: Count, null_ratio: float, multiples: Sequence[float]
) -> NDArray[np.float64]:
    """One bucket's step of ln L for H0: p_first <= null_ratio * p_second, whatever p_second is.

    One number per alternative ratio, `null_ratio * multiple`; zeros if either arm had no trial. Added up over
    buckets, each L is a test supermartingale at any sample size, since per bucket E[L] <= 1 by ln(1+x) <= x
    (Lindon & Malek 2022, with the bucket as stratum).
    """
    if first.trials == 0 or second.trials == 0:
        return np.zeros(len(multiples))
    r = null_ratio * np.asarray(multiples)
    scale = (first.trials * r + second.trials) / (first.trials * null_ratio + second.trials)
    step: NDArray[np.float64] = first.events * np.log(r / null_ratio) - (
        first.events + second.events
    ) * np.log(scale)
    return step


def at_odds(p: float, multiple: float) -> float:
    """The proportion whose odds are `multiple` times those of `p`."""
    return p * multiple / (1 - p + p * multiple)


def against_bound(count: Count, bound: float, alternatives: Sequence[float]) -> float:
    """The e-value against H0: p on the far side of `bound` from all of the `alternatives`.

    A mixture of binomial likelihood ratios; alternatives above the bound test p <= bound, those below it
    p >= bound.
    """
    q = np.asarray(alternatives)
    ln_l = count.events * np.log(q / bound) + (count.trials - count.events) * np.log((1 - q) / (1 - bound))
    return mixture(ln_l)

"""By how much predictions are to be widened, so that their 90 % intervals hold nine times in ten.

Each measured prediction tells the factor on its standard deviation at which its interval would just have held
(`Comparison.need`). The 0.9 quantile of these factors is the one at which nine in ten would have: conformal
prediction with normalised residuals (Lei, G'Sell, Rinaldo, Tibshirani & Wasserman, JASA 2018), which asks
nothing of the errors' distribution. In place of its correction for small samples stands a prior, some
pseudo-observations with the factors that right predictions have, so that a few entries widen little and none
do not widen at all.
"""

from collections.abc import Sequence

from scipy.special import ndtr, ndtri

from domain.decision.responses import Z90

LEVEL = float(2 * ndtr(Z90) - 1)
"""How often an interval of `Z90` standard deviations to either side holds."""

PRIOR_WEIGHT = 20.0
"""How many measured predictions the prior counts as."""

MOST = 4.0
"""Predictions so wrong that this is too little want mending, not more width."""


def widening(needs: Sequence[float], prior: float = 1.0) -> float:
    """The factor, 1 to 4, on the standard deviations of predictions whose `needs` were measured.

    `prior` is the factor to assume where nothing is known: 1, or for a service that of all services. The
    result is the least q with #{needs <= q} + m F(q / prior) >= LEVEL (n + m), where F is the distribution of
    |Z| / Z90 for a standard normal Z, and m the prior's weight.
    """
    reached = LEVEL * (len(needs) + PRIOR_WEIGHT)
    found = float("inf")
    for passed, need in enumerate([0.0, *sorted(needs)]):
        asked = (reached - passed) / PRIOR_WEIGHT
        if asked < 1:
            found = min(found, max(need, prior * _pseudo_quantile(asked)))
    return min(max(found, 1.0), MOST)


def _pseudo_quantile(p: float) -> float:
    return float(ndtri((1 + p) / 2)) / Z90 if p > 0 else 0.0

"""How often intervals held, how far off they were and how wide: of some comparisons."""

from collections.abc import Sequence
from math import fsum, sqrt

from scipy.special import betaincinv

from domain.base import Message
from domain.decision.responses import Z90
from domain.ledger.entry import Comparison

ENOUGH = 10
"""Predictions measured below which nothing is said of how they are calibrated."""

_ALPHA = 0.05


class Share(Message):
    """A proportion with its 95 % interval."""

    value: float
    low: float
    high: float


class Calibration(Message):
    """What comparisons come to.

    `coverage` is how often the 90 % intervals held. `bias` is the mean error, measured less predicted, and
    `sharpness` the mean half-width of the intervals, both on the scale of the metric's effects (the logarithm
    of a ratio, or a difference): absent over several metrics. `standardised_bias` and `standardised_spread`
    (root mean square) are in units of what was to be expected: 0 and 1 where predictions are right. `note`
    says so where there are too few to tell.
    """

    predictions: int
    held: int
    coverage: Share | None = None
    bias: float | None = None
    sharpness: float | None = None
    standardised_bias: float | None = None
    standardised_spread: float | None = None
    note: str | None = None


def calibration(found: Sequence[Comparison], *, one_metric: bool) -> Calibration:
    """The calibration of some comparisons, all of `one_metric` or of several."""
    n, held = len(found), sum(comparison.held for comparison in found)
    standardised = [comparison.standardised for comparison in found]
    return Calibration(
        predictions=n,
        held=held,
        coverage=share(held, n),
        bias=fsum(comparison.error for comparison in found) / n if n and one_metric else None,
        sharpness=Z90 * fsum(comparison.sd for comparison in found) / n if n and one_metric else None,
        standardised_bias=fsum(standardised) / n if n else None,
        standardised_spread=sqrt(fsum(z * z for z in standardised) / n) if n else None,
        note=too_few(n),
    )


def too_few(n: int) -> str | None:
    """What is said where `n` measured predictions are too few to judge by."""
    if n >= ENOUGH:
        return None
    return f"Not enough yet: {n} measured, of {ENOUGH} needed to judge by."


def share(events: int, n: int) -> Share | None:
    """A proportion with its exact 95 % interval (Clopper & Pearson 1934); None of nothing."""
    if n == 0:
        return None
    low = float(betaincinv(events, n - events + 1, _ALPHA / 2)) if events else 0.0
    high = float(betaincinv(events + 1, n - events, 1 - _ALPHA / 2)) if events < n else 1.0
    return Share(value=events / n, low=low, high=high)

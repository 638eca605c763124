"""Effects: what a configuration changes a metric by, on a scale on which that is one number.

Cost, latency and tokens change by a factor, so theirs is the logarithm of the ratio; quality and the error
rate change by a difference, in the metric's own unit. A drift of the whole service moves both arms of a
rollout alike and cancels in either, so that it is no error of a prediction.
"""

from math import log
from typing import NamedTuple

from domain.decision.responses import RESPONSES, Z90
from domain.plan import Prediction


class Effect(NamedTuple):
    """A predicted effect with its standard deviation."""

    mean: float
    sd: float


def effect(metric: str, before: float, after: float) -> float | None:
    """The change from one level to another; None where it has none, as from a cost of nil.

    Metrics are those that a configuration's effect on can be predicted; others have no effect either.
    """
    response = RESPONSES.get(metric)
    if response is None:
        return None
    if not response.logarithmic:
        return after - before
    return log(after / before) if before > 0 and after > 0 else None


def predicted_effect(metric: str, prediction: Prediction, incumbent: float) -> Effect | None:
    """What a prediction of a level promises against the incumbent's level that it started from.

    The level's interval is read as one of the effect: the level was derived from what was measured of the
    incumbent, and shares its error. An interval that is cut off where the metric ends (a quality of 100) is
    judged by its other half.
    """
    mean, low, high = (
        effect(metric, incumbent, level) for level in (prediction.mean, prediction.low, prediction.high)
    )
    if mean is None or low is None or high is None:
        return None
    return Effect(mean, max(mean - low, high - mean, 0.0) / Z90)

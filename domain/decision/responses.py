"""How each metric is modelled: its scale, how strongly it varies, and how far a measurement can be trusted.

Cost, latency and tokens are modelled by their logarithm; quality and error rate as they are, in 0..1. The
standard deviations are fixed, not fitted: with a handful of configurations tried there is nothing to fit
them on.
"""

from dataclasses import dataclass, replace
from math import exp, log, sqrt

from domain.decision.history import MetricEstimate
from domain.plan import Prediction

Z90 = 1.64
"""Half the width of a 90 % interval, in standard deviations."""

_SMALLEST = 1e-9
"""Where logarithms are taken, what is below counts as this much (a free model costs this much)."""

_LARGEST_LOG = 300.0


@dataclass(frozen=True, slots=True)
class Response:
    """A metric as the model sees it.

    `capability`, `cut`, `model`, `shape` and `model_shape` are standard deviations of the kernel; `se_floor`
    is the least standard error credited to a measurement, `noise` what varies between measurements beside it;
    `worth` is how much utility a unit of the modelled scale carries per unit of objective weight; `slack` is
    the loss that counts as none.
    """

    metric: str
    logarithmic: bool
    unit: float
    capability: float
    cut: float
    model: float
    shape: float
    model_shape: float
    se_floor: float
    noise: float
    worth: float
    slack: float

    def modelled(self, estimate: MetricEstimate, trials: int = 1) -> tuple[float, float]:
        """Mean and standard error on the modelled scale, of an estimate pooled from so many measurements."""
        least = self.se_floor / sqrt(trials)
        if not self.logarithmic:
            return estimate.mean / self.unit, max(estimate.se / self.unit, least)
        mean = max(estimate.mean, _SMALLEST)
        return log(mean), max(estimate.se / mean, least)

    def modelled_value(self, value: float) -> float:
        """A value, a bound for example, on the modelled scale."""
        return log(max(value, _SMALLEST)) if self.logarithmic else value / self.unit

    def natural(self, modelled: float) -> float:
        """A value in the metric's own unit, within what the metric can be."""
        if self.logarithmic:
            return exp(min(modelled, _LARGEST_LOG))
        return min(max(modelled, 0.0), 1.0) * self.unit

    def prediction(self, mean: float, sd: float, samples: int) -> Prediction:
        """The 90 % interval in the metric's own unit."""
        low, high = self.natural(mean - Z90 * sd), self.natural(mean + Z90 * sd)
        return Prediction(mean=self.natural(mean), low=low, high=high, samples=samples)


_COST = Response(
    metric="cost.avg",
    logarithmic=True,
    unit=1.0,
    capability=0.0,
    cut=0.5,
    model=0.25,
    shape=0.05,
    model_shape=0.05,
    se_floor=0.03,
    noise=0.03,
    worth=1.0,
    slack=0.02,
)
_LATENCY = replace(
    _COST,
    metric="latency.p95",
    cut=2.0,
    model=0.5,
    shape=0.15,
    model_shape=0.10,
    se_floor=0.05,
    noise=0.05,
)
_QUALITY = Response(
    metric="quality.avg",
    logarithmic=False,
    unit=100.0,
    capability=0.6,
    cut=0.6,
    model=0.10,
    shape=0.02,
    model_shape=0.02,
    se_floor=0.0,
    noise=0.005,
    worth=5.0,
    slack=0.01,
)
_ERRORS = replace(
    _QUALITY,
    metric="errors.rate",
    unit=1.0,
    capability=0.0,
    cut=0.0,
    model=0.02,
    shape=0.004,
    model_shape=0.004,
    noise=0.002,
    slack=0.002,
)

RESPONSES: dict[str, Response] = {
    "cost.avg": _COST,
    "quality.avg": _QUALITY,
    "errors.rate": _ERRORS,
    "tokens.output": replace(_COST, metric="tokens.output"),
    **{f"latency.{p}": replace(_LATENCY, metric=f"latency.{p}") for p in ("avg", "p50", "p95", "p99")},
}
"""The metrics that a configuration's effect on can be predicted."""

SCORED_QUALITY = replace(_QUALITY, model=0.08)
"""Quality where public scores tell the models apart: they leave less to the model itself."""

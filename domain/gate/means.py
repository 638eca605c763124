"""Tests and intervals of means, stratified by bucket: canary against control, and canary against a bound.

Within a bucket both arms see the same time of day and the same incidents, so differences are taken there and
only then summed. The tests are asymptotic normal mixtures (Robbins; Howard et al. 2021): valid at any look
once there are a few dozen values.
"""

from collections.abc import Sequence
from math import log, sqrt
from typing import NamedTuple, Self

import numpy as np
from pydantic import Field
from scipy.special import log_ndtr

from domain.base import Message

# Below so many degrees of freedom within buckets (traffic of a request or two each) the whole variance
# stands in, which is the larger.
MIN_WITHIN_DF = 20
HARM_RHO = 20.0
PROOF_RHO = 43.0


class Moments(NamedTuple):
    """Number, mean and sum of squared deviations of one arm's values in one bucket."""

    n: int
    mean: float
    ss: float

    @classmethod
    def of(cls, values: Sequence[float] | np.ndarray) -> Self:
        array = np.asarray(values, dtype=float)
        if array.size == 0:
            return cls(0, 0.0, 0.0)
        mean = float(array.mean())
        return cls(array.size, mean, float(np.square(array - mean).sum()))

    @classmethod
    def of_count(cls, events: int, trials: int) -> Self:
        """Of `trials` zeros and ones."""
        if trials == 0:
            return cls(0, 0.0, 0.0)
        p = events / trials
        return cls(trials, p, trials * p * (1 - p))


class ArmSums(Message):
    """One arm's values so far: overall moments, and the squared deviations within buckets."""

    n: int = 0
    mean: float = 0.0
    ss: float = 0.0
    within_ss: float = 0.0
    within_df: int = 0

    def add(self, bucket: Moments) -> "ArmSums":
        """These and one more bucket (Chan's update)."""
        if bucket.n == 0:
            return self
        n = self.n + bucket.n
        delta = bucket.mean - self.mean
        return ArmSums.model_construct(
            n=n,
            mean=self.mean + delta * bucket.n / n,
            ss=self.ss + bucket.ss + delta * delta * self.n * bucket.n / n,
            within_ss=self.within_ss + bucket.ss,
            within_df=self.within_df + bucket.n - 1,
        )

    def variance_within(self, doubt: float) -> float:
        """The variance within buckets, with one imagined value `doubt` away from the mean.

        Scores of 0 or 100, or a fixed price, can be constant for a while: the sample variance is then nil,
        and nothing would be left in doubt after thirty values. The imagined value fades as 1/n.
        """
        if self.within_df < MIN_WITHIN_DF:
            return self.variance(doubt)
        return (self.within_ss + doubt * doubt) / (self.within_df + 1)

    def variance(self, doubt: float) -> float:
        """The overall variance, with one imagined value `doubt` away from the mean."""
        return (self.ss + doubt * doubt) / max(self.n, 1)


class PairSums(Message):
    """Both arms over the buckets in which both have values, weighted by w = n_c n_t / (n_c + n_t).

    The sums from which every comparison follows: of w, of w times each arm's mean, of w^2/n of each arm.
    """

    control: ArmSums = Field(default_factory=ArmSums)
    canary: ArmSums = Field(default_factory=ArmSums)
    weight: float = 0.0
    control_sum: float = 0.0
    canary_sum: float = 0.0
    control_v: float = 0.0
    canary_v: float = 0.0

    def add(self, control: Moments, canary: Moments) -> "PairSums":
        """These and one more bucket; unchanged where either arm has no value."""
        if control.n == 0 or canary.n == 0:
            return self
        w = canary.n * control.n / (canary.n + control.n)
        return PairSums.model_construct(
            control=self.control.add(control),
            canary=self.canary.add(canary),
            weight=self.weight + w,
            control_sum=self.control_sum + w * control.mean,
            canary_sum=self.canary_sum + w * canary.mean,
            control_v=self.control_v + w * w / control.n,
            canary_v=self.canary_v + w * w / canary.n,
        )

    @property
    def control_mean(self) -> float:
        """Control's mean with the strata's weights."""
        return self.control_sum / self.weight if self.weight else 0.0

    @property
    def canary_mean(self) -> float:
        """The canary's mean with the same weights, so that the mix of times makes no difference."""
        return self.canary_sum / self.weight if self.weight else 0.0

    @property
    def smaller(self) -> int:
        """Values in the smaller arm."""
        return min(self.control.n, self.canary.n)

    def excess(self, factor: float, shift: float, doubt: float) -> "Excess":
        """By how much canary exceeds `factor * control + shift`."""
        control_v = factor * factor * self.control_v
        variance = (
            self.canary.variance_within(doubt) * self.canary_v
            + self.control.variance_within(doubt) * control_v
        )
        total = self.canary_sum - factor * self.control_sum - shift * self.weight
        return Excess(total, self.canary_v + control_v, variance)


class Excess(NamedTuple):
    """A sum of differences, its intrinsic time v, and its variance."""

    total: float
    v: float
    variance: float

    @classmethod
    def over_bound(cls, arm: ArmSums, bound: float, doubt: float) -> Self:
        """By how much an arm exceeds a constant. The overall variance, since no control removes the drift."""
        return cls(arm.n * (arm.mean - bound), float(arm.n), arm.n * arm.variance(doubt))

    def reversed(self) -> "Excess":
        """The same in the other direction."""
        return self._replace(total=-self.total)

    def ln_evidence(self, rho: float) -> float:
        """ln of the e-value against H0: the expected total is at most nil; half-normal mixture, scale rho."""
        if self.v <= 0 or self.variance <= 0:
            return 0.0
        z = self.total / sqrt(self.variance / self.v)
        spread = self.v + rho
        prior = log(2) + 0.5 * log(rho / spread)
        return prior + z * z / (2 * spread) + float(log_ndtr(z / sqrt(spread)))

    def radius(self, alpha: float, rho: float = HARM_RHO) -> float:
        """Half the width of the total's two-sided confidence sequence, at level 1 - alpha over all looks."""
        if self.v <= 0:
            return float("inf")
        spread = self.v + rho
        reach = sqrt(spread * (log(spread / rho) + 2 * log(1 / alpha)))
        return sqrt(self.variance / self.v) * reach

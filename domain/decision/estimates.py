"""From totals to an observation: means, percentiles and rates with their standard errors."""

import numpy as np
from scipy.special import betainc

from domain.config import LLMConfig
from domain.decision.history import QUANTILES, MetricEstimate, Observation, TokenUse
from domain.sketches import Sketch
from domain.totals import PERCENTILES, Amount, Totals


def observation_of(config: LLMConfig, totals: Totals, *, incumbent: bool = False) -> Observation:
    """An observation of a configuration's requests and scores; a metric without a value is left out."""
    metrics: dict[str, MetricEstimate] = {}
    if totals.n > 0:
        metrics["errors.rate"] = rate(totals.errors, totals.n)
    if totals.latency.n:
        metrics["latency.avg"] = average(totals.latency)
        metrics["tokens.output"] = average(totals.tokens_output)
    if totals.latency.n and totals.latency.sketch is not None:
        latency = totals.latency.sketch
        metrics |= {name: percentile(latency, share) for name, share in PERCENTILES.items()}
    if totals.cost.n:
        metrics["cost.avg"] = average(totals.cost)
    if totals.quality.n:
        metrics["quality.avg"] = _quality(totals)
    return Observation(
        config=config,
        incumbent=incumbent,
        n=totals.n,
        metrics=metrics,
        tokens=token_use(totals),
        observed_at=totals.last_at,
    )


def token_use(totals: Totals) -> TokenUse | None:
    """How many tokens the successes took; None without any, or without their sketch."""
    outputs = totals.tokens_output.sketch
    if not totals.tokens_input.n or outputs is None or not outputs.n:
        return None
    quantiles = np.maximum.accumulate(outputs.quantiles(np.linspace(0, 1, QUANTILES)))
    return TokenUse(input=totals.tokens_input.mean, output_quantiles=quantiles.tolist())


def average(amount: Amount) -> MetricEstimate:
    """The mean and its standard error."""
    return MetricEstimate(mean=amount.mean, se=amount.standard_error, n=amount.n)


def rate(events: int, n: int) -> MetricEstimate:
    """A share of `n` with Jeffreys' prior: the mean and standard deviation of Beta(events + ½, rest + ½)."""
    mean = (events + 0.5) / (n + 1)
    return MetricEstimate(mean=mean, se=float(np.sqrt(mean * (1 - mean) / (n + 2))), n=n)


def percentile(sketch: Sketch, p: float) -> MetricEstimate:
    """A percentile with the standard error of Maritz and Jarrett (1978).

    That is the error which the bootstrap has in the limit, in closed form: the variance of an order statistic
    under resampling, weights from the Beta distribution. Values of one bin are taken as equal.
    """
    n, values = sketch.n, sketch.values
    rank = min(max(int(np.floor(p * n + 0.5)), 1), n)
    until = np.concatenate(([0.0], np.cumsum(sketch.counts) / n))
    weights = np.diff(betainc(rank, n - rank + 1, until))
    spread = float(np.sqrt(weights @ (values - weights @ values) ** 2))
    mean = float(sketch.quantiles([p])[0])
    return MetricEstimate(mean=mean, se=abs(mean) if n == 1 else spread, n=n)


def _quality(totals: Totals) -> MetricEstimate:
    """Right-or-wrong scores as a rate, so that a streak of one kind has an error too; others as a mean."""
    scores = totals.quality
    if totals.extremes < scores.n:
        return average(scores)
    share = rate(round(scores.total / 100), scores.n)
    return MetricEstimate(mean=100 * share.mean, se=100 * share.se, n=scores.n)

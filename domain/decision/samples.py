"""From raw numbers to an observation: means, percentiles and rates with their standard errors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc

from domain.config import LLMConfig
from domain.decision.history import QUANTILES, MetricEstimate, Observation, TokenUse

Values = Sequence[float] | NDArray[Any]

_PERCENTILES = {"latency.p50": 0.50, "latency.p95": 0.95, "latency.p99": 0.99}


def observation_from_samples(
    config: LLMConfig,
    *,
    n: int,
    errors: int,
    latency_ms: Values,
    cost_usd: Values,
    quality: Values,
    tokens_input: Values,
    tokens_output: Values,
    incumbent: bool = False,
    observed_at: int | None = None,
) -> Observation:
    """An observation of `n` requests, `errors` of which failed.

    `latency_ms` of successes; `cost_usd` where known; `quality` (0..100) where scored; tokens of successes,
    input and output of equal length. Any may be empty: that metric is then left out. Values that are not
    finite are dropped.
    """
    latency, cost, scores = _finite(latency_ms), _finite(cost_usd), _finite(quality)
    metrics: dict[str, MetricEstimate] = {}
    if n > 0:
        metrics["errors.rate"] = rate(errors, n)
    if latency.size:
        metrics["latency.avg"] = average(latency)
        metrics |= {name: percentile(latency, p) for name, p in _PERCENTILES.items()}
    if cost.size:
        metrics["cost.avg"] = average(cost)
    if scores.size:
        metrics["quality.avg"] = _quality(scores)
    outputs = _finite(tokens_output)
    if outputs.size:
        metrics["tokens.output"] = average(outputs)
    return Observation(
        config=config,
        incumbent=incumbent,
        n=n,
        metrics=metrics,
        tokens=_tokens(_finite(tokens_input), outputs),
        observed_at=observed_at,
    )


def average(values: NDArray[np.float64]) -> MetricEstimate:
    """The mean and its standard error; of a single value the error is taken as large as the value."""
    n = values.size
    mean = float(values.mean())
    se = abs(mean) if n == 1 else float(values.std(ddof=1)) / float(np.sqrt(n))
    return MetricEstimate(mean=mean, se=se, n=n)


def rate(events: int, n: int) -> MetricEstimate:
    """A share of `n` with Jeffreys' prior: the mean and standard deviation of Beta(events + ½, rest + ½)."""
    mean = (events + 0.5) / (n + 1)
    return MetricEstimate(mean=mean, se=float(np.sqrt(mean * (1 - mean) / (n + 2))), n=n)


def percentile(values: NDArray[np.float64], p: float) -> MetricEstimate:
    """A percentile with the standard error of Maritz and Jarrett (1978).

    That is the error which the bootstrap has in the limit, in closed form: the variance of an order statistic
    under resampling, weights from the Beta distribution.
    """
    ordered = np.sort(values)
    n = ordered.size
    rank = min(max(int(np.floor(p * n + 0.5)), 1), n)
    edges = betainc(rank, n - rank + 1, np.arange(n + 1) / n)
    weights = np.diff(edges)
    spread = float(np.sqrt(weights @ (ordered - weights @ ordered) ** 2))
    se = abs(float(ordered[0])) if n == 1 else spread
    return MetricEstimate(mean=float(np.quantile(ordered, p)), se=se, n=n)


def _quality(scores: NDArray[np.float64]) -> MetricEstimate:
    """Right-or-wrong scores as a rate, so that a streak of one kind has an error too; others as a mean."""
    if np.isin(scores, (0.0, 100.0)).all():
        share = rate(int((scores == 100.0).sum()), scores.size)
        return MetricEstimate(mean=100 * share.mean, se=100 * share.se, n=scores.size)
    return average(scores)


def _tokens(inputs: NDArray[np.float64], outputs: NDArray[np.float64]) -> TokenUse | None:
    if not inputs.size or not outputs.size:
        return None
    quantiles = np.quantile(outputs, np.linspace(0, 1, QUANTILES))
    return TokenUse(input=float(inputs.mean()), output_quantiles=np.maximum.accumulate(quantiles).tolist())


def _finite(values: Values) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    return array[np.isfinite(array)]

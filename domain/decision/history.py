"""What has been observed of each configuration, as a decision sees it."""

from itertools import pairwise
from typing import Annotated, Self

from pydantic import Field, model_validator

from domain.base import Message
from domain.config import LLMConfig
from domain.metrics import Metric

QUANTILES = 101
"""Quantiles kept of the output tokens: the 0th, 1st, ... 100th percentile."""


class MetricEstimate(Message):
    """A metric's mean (for a percentile: its value) and standard error, in the metric's unit.

    `n` counts what it rests on, where that is not the observation's whole number of requests.
    """

    mean: float
    se: float = Field(ge=0)
    n: int | None = Field(default=None, ge=0)


class TokenUse(Message):
    """Tokens of a request: the mean of the input, percentiles 0..100 of the output."""

    input: float = Field(ge=0)
    output_quantiles: list[Annotated[float, Field(ge=0)]] = Field(min_length=QUANTILES, max_length=QUANTILES)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        values = self.output_quantiles
        if any(a > b for a, b in pairwise(values)):
            raise ValueError("outputQuantiles must not fall")
        return self

    def output_mean(self, max_tokens: float, verbosity: float = 1.0) -> float:
        """Mean output tokens were each answer `verbosity` times as long and cut off at `max_tokens`."""
        cut = [min(q * verbosity, max_tokens) for q in self.output_quantiles]
        return (sum(cut) - (cut[0] + cut[-1]) / 2) / (len(cut) - 1)


class Observation(Message):
    """One configuration over one stretch of traffic.

    `incumbent` marks the present configuration for readers. `n` requests; `observed_at` (ms) is when the last
    of them came; `trials` counts how often the configuration was tried. A metric without data is left out.
    """

    config: LLMConfig
    incumbent: bool = False
    n: int = Field(ge=0)
    metrics: dict[Metric, MetricEstimate] = Field(default_factory=dict)
    tokens: TokenUse | None = None
    observed_at: int | None = None
    trials: int = Field(default=1, ge=1)

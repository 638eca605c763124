"""What can be expected of a configuration before it is tried, from prices, tokens and public scores.

Every expectation is anchored on the incumbent's own measurements, so that what it expects of the incumbent
is what was measured of it. Unknown is NaN: the price of a model, a metric that was never measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, nan, tanh

import numpy as np
from numpy.typing import NDArray

from domain.config import LLMConfig
from domain.decision.history import Observation, TokenUse
from domain.decision.responses import Response
from domain.policy import CandidateModel, SearchSpace
from domain.pricing import TokenPrices, token_prices

CAPABILITY_PER_LOG_PRICE = 0.06
"""Quality (0..1) that a model e times as dear is expected to have more, where no public score says better."""

MOST_CAPABILITY_BY_PRICE = 0.2
"""What that comes to at most: prices differ without bound, what models can do does not."""

UNSEEN_QUALITY = 0.8
"""The level (0..1) about which changes of quality are reckoned while no quality was ever measured."""

_OUTPUT_SHARE = 3.0
_LATENCY_PER_LOG_TOKENS, _LATENCY_PER_HEAT = 0.8, 1.5
_QUALITY_PER_HEAT, _ERRORS_PER_HEAT, _HOT_FROM = 4.0, 0.4, 1.2
_VERBOSITY = (0.3, 4.0)
_AT_LIMIT = 0.98
"""A length is at the limit from here on: sketches tell lengths within 1 %."""

_TINY = 1e-9


def effective_temperature(temperature: float, top_p: float) -> float:
    """The temperature, its part above 1 discounted as topP falls from .95 to .8, which cuts off the tail."""
    if temperature <= 1:
        return temperature
    return 1 + (temperature - 1) * min(max((top_p - 0.8) / 0.15, 0.0), 1.0)


def heat(config: LLMConfig) -> float:
    """How far the effective temperature lies above where answers begin to fall apart."""
    return max(0.0, effective_temperature(config.temperature, config.top_p) - _HOT_FROM)


@dataclass(frozen=True, slots=True)
class _Answers:
    """Expected output tokens of a request: mean and 95th percentile, and the share that is cut off."""

    mean: float
    long: float
    cut: float


class Priors:
    """Expectations for one service, given its pooled history (the incumbent's observation first)."""

    def __init__(self, pooled: Sequence[Observation], search_space: SearchSpace, now: int) -> None:
        self._pooled = pooled
        self._now = now
        self._entries = {entry.key: entry for entry in search_space.models}
        self._incumbent = pooled[0]
        self._prices: dict[str, TokenPrices | None] = {}
        self._verbosity: dict[str, float] = {}
        self._answers: dict[tuple[str, int], _Answers] = {}

    @property
    def scored(self) -> bool:
        """Whether public scores tell the incumbent and every model of the search space apart."""
        keys = {self._incumbent.config.model_key, *self._entries}
        return all(key in self._entries and self._entries[key].score is not None for key in keys)

    def mean(self, response: Response, config: LLMConfig) -> float:
        """The expectation on the response's modelled scale."""
        if response.metric == "quality.avg":
            return self._quality(config)
        if response.metric == "errors.rate":
            return self._errors(config)
        if response.metric == "cost.avg":
            return self._log_cost(config, response)
        if response.metric == "tokens.output":
            return self._log_tokens(config)
        return self._log_latency(config, response)

    def capability(self, config: LLMConfig) -> float:
        """Expected quality (0..1) above the incumbent's: by public scores, else by price, else none."""
        mine, theirs = self._entry(config), self._entry(self._incumbent.config)
        if mine and theirs and mine.score is not None and theirs.score is not None:
            return (mine.score - theirs.score) / 100
        ratio = self.price_ratio(config)
        if ratio is None:
            return 0.0
        steepest = CAPABILITY_PER_LOG_PRICE * log(ratio) / MOST_CAPABILITY_BY_PRICE
        return MOST_CAPABILITY_BY_PRICE * tanh(steepest)

    def price_ratio(self, config: LLMConfig) -> float | None:
        """List price over the incumbent's, an output token counting three input tokens; None if unknown."""
        mine, theirs = self.prices(config), self.prices(self._incumbent.config)
        if mine is None or theirs is None:
            return None
        blended = [p.input + _OUTPUT_SHARE * p.output for p in (mine, theirs)]
        return max(blended[0], _TINY) / max(blended[1], _TINY)

    def prices(self, config: LLMConfig) -> TokenPrices | None:
        """The model's prices at the input size that the service has."""
        if config.model_key not in self._prices:
            tokens = self._incumbent.tokens
            size = tokens.input if tokens else 0.0
            entry = self._entry(config)
            self._prices[config.model_key] = token_prices(
                config.provider, config.model, entry, self._now, size
            )
        return self._prices[config.model_key]

    def _entry(self, config: LLMConfig) -> CandidateModel | None:
        return self._entries.get(config.model_key)

    def _measured(self, response: Response) -> float:
        estimate = self._incumbent.metrics.get(response.metric)
        return nan if estimate is None else response.modelled(estimate)[0]

    def _log_cost(self, config: LLMConfig, response: Response) -> float:
        prices, tokens = self.prices(config), self._incumbent.tokens
        if prices is None or tokens is None:
            return self._model_average(config, response)
        return log(max(prices.of(tokens.input, self._answer(tokens, config).mean), _TINY))

    def _model_average(self, config: LLMConfig, response: Response) -> float:
        """Where prices do not tell: what the model was measured at in any of its configurations."""
        seen = [
            (response.modelled(o.metrics[response.metric])[0], o.n)
            for o in self._pooled
            if o.config.model_key == config.model_key and response.metric in o.metrics
        ]
        whole = sum(n for _, n in seen)
        return sum(mean * n for mean, n in seen) / whole if whole else nan

    def _log_tokens(self, config: LLMConfig) -> float:
        tokens = self._incumbent.tokens
        if tokens is None:
            return nan
        return log(max(self._answer(tokens, config).mean, _TINY))

    def _log_latency(self, config: LLMConfig, response: Response) -> float:
        tokens = self._incumbent.tokens
        longer = 0.0
        if tokens is not None:
            mine, theirs = (self._answer(tokens, c).long for c in (config, self._incumbent.config))
            longer = log(max(mine, 1.0) / max(theirs, 1.0))
        return (
            self._measured(response)
            + _LATENCY_PER_LOG_TOKENS * longer
            + _LATENCY_PER_HEAT * self._heat_change(config)
        )

    def _answer(self, tokens: TokenUse, config: LLMConfig) -> _Answers:
        """What the model's answers to the incumbent's traffic are like at this maxTokens."""
        key = (config.model_key, config.max_tokens)
        if key not in self._answers:
            verbosity = self.verbosity(config)
            lengths = np.asarray(tokens.output_quantiles) * verbosity
            self._answers[key] = _Answers(
                mean=tokens.output_mean(config.max_tokens, verbosity),
                long=min(float(lengths[95]), config.max_tokens),
                cut=self._cut(lengths, config.max_tokens, self._incumbent.config.max_tokens * verbosity),
            )
        return self._answers[key]

    def _quality(self, config: LLMConfig) -> float:
        measured = self._incumbent.metrics.get("quality.avg")
        level = UNSEEN_QUALITY if measured is None else measured.mean / 100
        truncated = max(0.0, self.cut_change(config))
        spoiled = exp(-_QUALITY_PER_HEAT * self._heat_change(config))
        return min(max((level + self.capability(config)) * (1 - truncated) * spoiled, 0.0), 1.0)

    def _errors(self, config: LLMConfig) -> float:
        measured = self._incumbent.metrics.get("errors.rate")
        level = nan if measured is None else measured.mean
        return min(max(level + _ERRORS_PER_HEAT * self._heat_change(config), 0.0), 1.0)

    def _heat_change(self, config: LLMConfig) -> float:
        return heat(config) - heat(self._incumbent.config)

    def cut_change(self, config: LLMConfig) -> float:
        """The share of answers that maxTokens cuts off beyond those at present; 0 if it is not known."""
        tokens = self._incumbent.tokens
        if tokens is None:
            return 0.0
        return self._answer(tokens, config).cut - self._answer(tokens, self._incumbent.config).cut

    @staticmethod
    def _cut(lengths: NDArray[np.float64], limit: int, seen_up_to: float) -> float:
        """The share of lengths at a limit. How long those would be that the incumbent cuts off was never
        seen: one is longer than another limit with the probability that the present limit is of that."""
        if limit <= seen_up_to:
            return float((lengths >= _AT_LIMIT * limit).mean())
        return float((lengths >= _AT_LIMIT * seen_up_to).mean()) * seen_up_to / limit

    def verbosity(self, config: LLMConfig) -> float:
        """Output tokens of the model over those of the incumbent on the like traffic; 1 until observed."""
        key = config.model_key
        if key not in self._verbosity:
            self._verbosity[key] = self._observed_verbosity(key)
        return self._verbosity[key]

    def _observed_verbosity(self, key: str) -> float:
        tokens = self._incumbent.tokens
        seen = [(o, o.tokens) for o in self._pooled if o.config.model_key == key and o.tokens is not None]
        if tokens is None or key == self._incumbent.config.model_key or not seen:
            return 1.0
        ratios = [
            use.output_mean(o.config.max_tokens) / max(tokens.output_mean(o.config.max_tokens), _TINY)
            for o, use in seen
        ]
        weighted = sum(r * o.n for r, (o, _) in zip(ratios, seen, strict=True)) / sum(o.n for o, _ in seen)
        return min(max(weighted, _VERBOSITY[0]), _VERBOSITY[1])

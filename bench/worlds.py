"""Services to decide for, of which the truth is known: what a decision is held against.

A world answers requests under any configuration, as noisily as a real service does. What it knows of
capability, temperature or truncation it has from its own mechanics (answers to questions of some difficulty,
lengths, decode speeds), not from what `domain.decision` expects of them.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import inf, log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domain.config import LLMConfig
from domain.policy import CandidateModel, Constraint, IntRange, Objective, Range, SearchSpace
from domain.totals import Amount, Totals

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

POPULATION = 1 << 13
"""Requests that the truth of a configuration is taken over."""

WORTH = {"cost.avg": 1.0, "latency.p95": 1.0, "quality.avg": 5.0, "errors.rate": 5.0}
"""Utility per unit of weight: of ln cost and ln latency, and of quality and errors in 0..1."""

WORTH_TRYING = 0.1
"""A task whose best configuration gains less is none: there is nothing to capture."""

_GRID_TEMPERATURES = (0.0, 0.2, 0.4, 0.7, 1.0, 1.3)
_GRID_TOP_PS = (0.5, 0.75, 1.0)
_GRID_LIMITS = (128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
_HALVINGS = 5


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests that were served, an array entry each. `quality` (0..100) is read of those that succeeded."""

    failed: Mask
    latency_ms: Array
    cost_usd: Array
    tokens_input: Array
    tokens_output: Array
    quality: Array

    def totals(self, at: int, judged: float, rng: np.random.Generator) -> Totals:
        """What reports of them come to; of the successes a share `judged` is scored."""
        good = ~self.failed
        scores = self.quality[good & (rng.random(good.size) < judged)]
        return Totals(
            n=int(good.size),
            errors=int(self.failed.sum()),
            last_at=at,
            latency=Amount.of(self.latency_ms[good]),
            cost=Amount.of(self.cost_usd),
            tokens_input=Amount.of(self.tokens_input[good]),
            tokens_output=Amount.of(self.tokens_output[good]),
            quality=Amount.of(scores),
            extremes=int(((scores == 0) | (scores == 100)).sum()),
        )

    def metrics(self) -> dict[str, float]:
        """The metrics without error."""
        good = ~self.failed
        if not good.any():
            return {"cost.avg": float(self.cost_usd.mean()), "errors.rate": 1.0}
        return {
            "cost.avg": float(self.cost_usd.mean()),
            "latency.p95": float(np.quantile(self.latency_ms[good], 0.95)),
            "quality.avg": float(self.quality[good].mean()),
            "errors.rate": float(self.failed.mean()),
        }


class World(ABC):
    """A service, its policy, and what each configuration would truly do."""

    name: str
    models: list[CandidateModel]
    space: SearchSpace
    incumbent: LLMConfig
    objectives: list[Objective]
    constraints: list[Constraint]

    @abstractmethod
    def serve(self, config: LLMConfig, n: int, rng: np.random.Generator) -> Requests:
        """`n` requests under a configuration."""

    @abstractmethod
    def population(self, config: LLMConfig) -> Requests:
        """The `POPULATION` requests that the truth is taken over: the same ones for every configuration, and
        so evenly spread that none but the smallest error is left in their mean."""

    def truth(self, config: LLMConfig) -> dict[str, float]:
        """What a configuration truly does."""
        key = (config.model_key, config.temperature, config.top_p, config.max_tokens)
        if key not in self._truths:
            self._truths[key] = self.population(config).metrics()
        return self._truths[key]

    def gain(self, config: LLMConfig) -> float:
        """True utility against the incumbent: weighed differences of ln cost, ln latency, quality, errors."""
        mine, theirs = self.truth(config), self.truth(self.incumbent)
        whole = sum(objective.weight for objective in self.objectives)
        gained = 0.0
        for objective in self.objectives:
            change = _scaled(objective.metric, mine) - _scaled(objective.metric, theirs)
            sign = 1 if objective.goal == "maximize" else -1
            gained += sign * objective.weight / whole * WORTH[objective.metric] * change
        return gained

    def excess(self, config: LLMConfig) -> float:
        """By how much a configuration truly breaches the hard constraints, each as a share of its bound; 0
        where it keeps them all."""
        truth, whole = self.truth(config), 0.0
        for constraint in self.constraints:
            value = truth.get(constraint.metric or "")
            if value is None:
                return inf
            if constraint.max is not None:
                whole += max(0.0, value - constraint.max) / (abs(constraint.max) or 1.0)
            if constraint.min is not None:
                whole += max(0.0, constraint.min - value) / (abs(constraint.min) or 1.0)
        return whole

    def breaches(self, config: LLMConfig) -> bool:
        """Whether a configuration truly breaches a hard constraint."""
        return self.excess(config) > 0

    @cached_property
    def oracle(self) -> float:
        """The greatest true gain of any configuration that keeps every hard constraint: for each model from
        the best of a grid on, in ever smaller steps as long as they lead further (Hooke & Jeeves 1961)."""
        tops = (self._climbed(max(self._grid(model), key=self._merit)) for model in self.models)
        return max((self.gain(top) for top in (self.incumbent, *tops) if not self.breaches(top)), default=0.0)

    @cached_property
    def _truths(self) -> dict[Any, dict[str, float]]:
        return {}

    def _merit(self, config: LLMConfig) -> tuple[float, float]:
        return -self.excess(config), self.gain(config)

    def _grid(self, model: CandidateModel) -> Iterator[LLMConfig]:
        space, now = self.space, self.incumbent
        temperatures = _levels(space.temperature, _GRID_TEMPERATURES, now.temperature)
        top_ps = _levels(space.top_p, _GRID_TOP_PS, now.top_p)
        limits = _levels(space.max_tokens, _GRID_LIMITS, now.max_tokens)
        for temperature, top_p, limit in product(temperatures, top_ps, limits):
            yield configured(self.incumbent, model, temperature, top_p, int(limit))

    def _climbed(self, config: LLMConfig) -> LLMConfig:
        for halvings in range(_HALVINGS):
            while (best := max(self._around(config, 0.5**halvings), key=self._merit)) != config:
                config = best
        return config

    def _around(self, config: LLMConfig, step: float) -> Iterator[LLMConfig]:
        """The configuration, and those a step away in one setting."""
        yield config
        space = self.space
        for sign in (-step, step):
            if space.temperature is not None:
                temperature = _clipped(config.temperature + 0.2 * sign, space.temperature)
                yield config.model_copy(update={"temperature": temperature})
            if space.top_p is not None:
                yield config.model_copy(update={"top_p": _clipped(config.top_p + 0.2 * sign, space.top_p)})
            if space.max_tokens is not None:
                limit = round(_clipped(config.max_tokens * 2 ** (sign / 2), space.max_tokens))
                yield config.model_copy(update={"max_tokens": limit})


def configured(
    incumbent: LLMConfig, model: CandidateModel, temperature: float, top_p: float, max_tokens: int
) -> LLMConfig:
    """The incumbent with another model and other settings."""
    return incumbent.model_copy(
        update={
            "provider": model.provider,
            "model": model.model,
            "temperature": temperature,
            "top_p": top_p,
            "max_tokens": max_tokens,
        }
    )


def bounds_of(truth: dict[str, float], slack: float, *, latency: float = 1.25) -> list[Constraint]:
    """Hard constraints about what the incumbent does: quality at most `slack` points lower, a ceiling on the
    tail `latency` times as high, errors at most two points more."""
    return [
        Constraint(id="quality", type="hard", metric="quality.avg", min=truth["quality.avg"] - slack),
        Constraint(id="tail", type="hard", metric="latency.p95", max=truth["latency.p95"] * latency),
        Constraint(id="errors", type="hard", metric="errors.rate", max=truth["errors.rate"] + 0.02),
    ]


def objectives(cost: float, latency: float, quality: float) -> list[Objective]:
    """Objectives by weight."""
    return [
        Objective(metric="cost.avg", goal="minimize", weight=cost),
        Objective(metric="latency.p95", goal="minimize", weight=latency),
        Objective(metric="quality.avg", goal="maximize", weight=quality),
    ]


def plain_config(model: CandidateModel, *, temperature: float = 0.7, max_tokens: int = 1024) -> LLMConfig:
    """A configuration as services start with."""
    return LLMConfig(
        provider=model.provider,
        model=model.model,
        temperature=temperature,
        top_p=1.0,
        max_tokens=max_tokens,
        streaming=False,
        function_calling=False,
        vision_enabled=False,
    )


def _scaled(metric: str, truth: dict[str, float]) -> float:
    if metric not in truth:
        return -10.0
    if metric == "quality.avg":
        return truth[metric] / 100
    return log(max(truth[metric], 1e-9)) if metric in ("cost.avg", "latency.p95") else truth[metric]


def _clipped(value: float, interval: Range | IntRange) -> float:
    return min(max(value, interval.min), interval.max)


def _levels(interval: Any, grid: Sequence[float], present: float) -> list[float]:
    if interval is None:
        return [present]
    return sorted({present, *(value for value in grid if interval.min <= value <= interval.max)})

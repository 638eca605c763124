"""Ways to choose the next canary: the product's, and what it is compared with."""

from abc import ABC, abstractmethod
from collections import defaultdict
from math import log

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from bench.worlds import WORTH, World, configured
from domain.config import LLMConfig
from domain.decision.decide import decide
from domain.decision.history import Observation
from domain.decision.problem import DecisionProblem, Skip, Strategy
from domain.plan import OptimizationPlan

optuna.logging.set_verbosity(optuna.logging.ERROR)


class Policy(ABC):
    """Chooses one canary after another for one world."""

    def __init__(self, world: World, first: Observation, seed: int) -> None:
        """`first` is what was observed of the configuration that serves when it begins."""
        self.world = world
        self.first = first
        self.rng = np.random.default_rng(seed)
        self.plans: list[OptimizationPlan] = []
        """What was predicted of each canary, by a policy that predicts."""

    @abstractmethod
    def propose(self, problem: DecisionProblem) -> LLMConfig | None:
        """The configuration of the next canary, None for none."""

    def learn(self, observation: Observation) -> None:  # noqa: B027  # many have nothing to keep
        """Take in what was measured of it."""

    def utility(self, observation: Observation) -> float:
        """What was measured, weighed as the objectives say, against the first configuration."""
        whole = sum(objective.weight for objective in self.world.objectives)
        gained = 0.0
        for objective in self.world.objectives:
            change = self._scaled(observation, objective.metric) - self._scaled(self.first, objective.metric)
            sign = 1 if objective.goal == "maximize" else -1
            gained += sign * objective.weight / whole * WORTH[objective.metric] * change
        return gained

    def excess(self, observation: Observation) -> dict[str, float]:
        """By how much each hard bound was broken by what was measured, as a fraction of the bound."""
        found = {}
        for constraint in self.world.constraints:
            name = constraint.id or ""
            measured = observation.metrics.get(constraint.metric or "")
            if measured is None:
                found[name] = 1.0
            elif constraint.max is not None:
                found[name] = (measured.mean - constraint.max) / constraint.max
            elif constraint.min is not None:
                found[name] = (constraint.min - measured.mean) / constraint.min
        return found

    @staticmethod
    def _scaled(observation: Observation, metric: str) -> float:
        estimate = observation.metrics.get(metric)
        if estimate is None:
            return -1.0 if metric == "quality.avg" else 3.0
        return estimate.mean / 100 if metric == "quality.avg" else log(max(estimate.mean, 1e-9))


class Product(Policy):
    """`decide`, as the workflow calls it."""

    strategy: Strategy

    def propose(self, problem: DecisionProblem) -> LLMConfig | None:
        outcome = decide(problem, self.strategy)
        if isinstance(outcome, Skip):
            return None
        self.plans.append(outcome)
        return outcome.recommended_config


class Random(Policy):
    """Uniform over models and ranges, maxTokens by its logarithm."""

    def propose(self, problem: DecisionProblem) -> LLMConfig | None:
        world, space, now = self.world, self.world.space, self.world.incumbent
        model = world.models[int(self.rng.integers(len(world.models)))]
        heat, top_p, limit = self.rng.random(3)
        temperature, share, limits = space.temperature, space.top_p, space.max_tokens
        return configured(
            now,
            model,
            now.temperature if temperature is None else _within(temperature.min, temperature.max, heat),
            now.top_p if share is None else _within(share.min, share.max, top_p),
            now.max_tokens
            if limits is None
            else round(float(np.exp(_within(log(limits.min), log(limits.max), limit)))),
        )


class Thompson(Policy):
    """Thompson sampling over the models at the present settings (Thompson 1933): normal rewards, known noise.

    A measured breach of a hard bound counts as the loss of 1.
    """

    def __init__(self, world: World, first: Observation, seed: int) -> None:
        super().__init__(world, first, seed)
        self._rewards: dict[str, list[float]] = defaultdict(list)
        self._rewards[world.incumbent.model_key].append(0.0)

    def propose(self, problem: DecisionProblem) -> LLMConfig | None:
        drawn = []
        for model in self.world.models:
            rewards = self._rewards[model.key]
            precision = 1.0 + len(rewards) / 0.1**2
            drawn.append(self.rng.normal(sum(rewards) / 0.1**2 / precision, precision**-0.5))
        now, model = self.world.incumbent, self.world.models[int(np.argmax(drawn))]
        return configured(now, model, now.temperature, now.top_p, now.max_tokens)

    def learn(self, observation: Observation) -> None:
        breach = 1.0 if max(self.excess(observation).values(), default=0.0) > 0 else 0.0
        self._rewards[observation.config.model_key].append(self.utility(observation) - breach)


class Tpe(Policy):
    """Optuna's tree-structured Parzen estimator with its constraints, as it comes.

    It is told of the first configuration as a trial.
    """

    def __init__(self, world: World, first: Observation, seed: int) -> None:
        super().__init__(world, first, seed)
        self._study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
        self._distributions = self._describe()
        settings = {
            "model": world.incumbent.model_key,
            "temperature": world.incumbent.temperature,
            "top_p": world.incumbent.top_p,
            "max_tokens": world.incumbent.max_tokens,
        }
        self._study.add_trial(
            create_trial(
                state=TrialState.COMPLETE,
                value=0.0,
                params={name: settings[name] for name in self._distributions},
                distributions=self._distributions,
                constraints=self.excess(first),
            )
        )

    def propose(self, problem: DecisionProblem) -> LLMConfig | None:
        self._trial = self._study.ask(self._distributions)
        given, now = self._trial.params, self.world.incumbent
        model = next(m for m in self.world.models if m.key == given["model"])
        return configured(
            now,
            model,
            given.get("temperature", now.temperature),
            given.get("top_p", now.top_p),
            given.get("max_tokens", now.max_tokens),
        )

    def learn(self, observation: Observation) -> None:
        for name, excess in self.excess(observation).items():
            self._trial.set_constraint(name, excess)
        self._study.tell(self._trial, self.utility(observation))

    def _describe(self) -> dict[str, BaseDistribution]:
        space = self.world.space
        found: dict[str, BaseDistribution] = {
            "model": CategoricalDistribution([model.key for model in self.world.models])
        }
        if space.temperature is not None:
            found["temperature"] = FloatDistribution(space.temperature.min, space.temperature.max)
        if space.top_p is not None:
            found["top_p"] = FloatDistribution(space.top_p.min, space.top_p.max)
        if space.max_tokens is not None:
            found["max_tokens"] = IntDistribution(space.max_tokens.min, space.max_tokens.max, log=True)
        return found


def _within(low: float, high: float, share: float) -> float:
    return float(low + (high - low) * share)

"""The loop of the benchmark of decisions: one policy, one canary after another, in one world."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.policies import Policy, Product, Random, Thompson, Tpe
from bench.worlds import WORTH_TRYING, World
from domain.config import LLMConfig
from domain.decision.bounds import Bound, odds
from domain.decision.estimates import observation_of
from domain.decision.history import Observation
from domain.decision.pooling import pool_key
from domain.decision.problem import DecisionProblem
from domain.decision.recommend import recommend
from domain.decision.strategy import StructuredPriorStrategy
from domain.plan import OptimizationPlan, Prediction
from domain.policy import Constraint

NOW = 1_760_000_000_000
CANARY_MS = 1_200_000
CANARY_REQUESTS = 300
FIRST_REQUESTS = 3000


class Ours(Product):
    """The product with the strategy that it has by default."""

    strategy = StructuredPriorStrategy()


POLICIES: dict[str, type[Policy]] = {
    "random": Random,
    "thompson": Thompson,
    "tpe": Tpe,
    "product": Ours,
}


@dataclass(frozen=True, slots=True)
class Conditions:
    """How a canary is run: the share of traffic that it has, the share of answers that is scored, and whether
    what is promoted becomes the incumbent of the next problem (`moving`) or is only named at the end."""

    budget: int = 20
    share: float = 0.1
    judged: float = 1.0
    moving: bool = True


@dataclass(frozen=True, slots=True)
class Foretold:
    """What was predicted of a canary and is true: by metric the probability that was given to values below
    the true one, and the confidence that it is better and keeps the bounds beside whether it does."""

    below: dict[str, float]
    confidence: float
    came_true: bool


@dataclass(frozen=True, slots=True)
class Run:
    """A policy in a world: the share captured after each canary, and what was proposed and accepted."""

    world: str
    policy: str
    captured: tuple[float, ...]
    proposals: int
    breaching: int
    accepted: int
    accepted_breaching: int
    oracle: float
    foretold: tuple[Foretold, ...] = ()


def run(world: World, policy_name: str, seed: int, conditions: Conditions) -> Run:
    """One policy in one world."""
    rng = np.random.default_rng([seed, 77])
    history = [measured(world, world.incumbent, FIRST_REQUESTS, NOW, conditions.judged, rng)]
    policy = POLICIES[policy_name](world, history[0], seed)
    serving = world.incumbent
    captured: list[float] = []
    foretold: list[Foretold] = []
    proposals, accepted = [], []
    for step in range(conditions.budget):
        at = NOW + step * CANARY_MS
        incumbent = serving if conditions.moving else world.incumbent
        problem = problem_of(world, incumbent, history, at)
        config = policy.propose(problem)
        foretold += [_foretold(world, plan, incumbent) for plan in policy.plans[len(foretold) :]]
        beside = round(CANARY_REQUESTS / conditions.share * (1 - conditions.share))
        history.append(measured(world, incumbent, beside, at + CANARY_MS, conditions.judged, rng))
        if config is not None:
            proposals.append(config)
            seen = measured(world, config, CANARY_REQUESTS, at + CANARY_MS, conditions.judged, rng)
            history.append(seen)
            policy.learn(seen)
        named = recommend(problem_of(world, incumbent, history, at + CANARY_MS))
        if named is not None and pool_key(named) != pool_key(serving):
            serving = named
            accepted.append(named)
        captured.append(_captured(world, serving))
    return Run(
        world=world.name,
        policy=policy_name,
        captured=tuple(captured),
        proposals=len(proposals),
        breaching=sum(world.breaches(config) for config in proposals),
        accepted=len(accepted),
        accepted_breaching=sum(world.breaches(config) for config in accepted),
        oracle=world.oracle,
        foretold=tuple(foretold),
    )


def _foretold(world: World, plan: OptimizationPlan, incumbent: LLMConfig) -> Foretold:
    config = plan.recommended_config
    truth = world.truth(config)
    better = world.gain(config) > world.gain(incumbent)
    return Foretold(
        below={
            metric: 1 - _odds_above(metric, truth[metric], prediction)
            for metric, prediction in plan.predictions.items()
            if metric in truth
        },
        confidence=plan.confidence,
        came_true=better and not world.breaches(config),
    )


def _odds_above(metric: str, value: float, prediction: Prediction) -> float:
    return odds(Bound(Constraint(type="hard", metric=metric, min=value), metric, value, None), prediction)


def problem_of(
    world: World, incumbent: LLMConfig, history: Sequence[Observation], now: int = NOW
) -> DecisionProblem:
    """What the product is asked in a world, after what was observed."""
    return DecisionProblem(
        service="bench",
        incumbent=incumbent,
        objectives=world.objectives,
        constraints=world.constraints,
        search_space=world.space,
        history=list(history),
        now=now,
    )


def measured(
    world: World, config: LLMConfig, n: int, at: int, judged: float, rng: np.random.Generator
) -> Observation:
    """What `n` requests under a configuration look like; of the answers a share `judged` is scored."""
    return observation_of(config, world.serve(config, n, rng).totals(at, judged, rng))


def _captured(world: World, config: LLMConfig) -> float:
    if world.oracle < WORTH_TRYING or world.breaches(config):
        return 0.0
    return max(world.gain(config), 0.0) / world.oracle

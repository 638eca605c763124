"""Which configuration to keep: to promote is strict where to try is loose."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from domain.config import LLMConfig
from domain.decision.acquisition import Appraisal
from domain.decision.bounds import KEEPING_FEASIBILITY, Bound
from domain.decision.candidates import observed_candidates
from domain.decision.history import MetricEstimate, Observation
from domain.decision.pooling import pool, pool_key
from domain.decision.priors import Priors
from domain.decision.problem import DecisionProblem
from domain.decision.readiness import ruled_out, too_little
from domain.decision.repricing import repriced
from domain.decision.weighing import weigh

BETTER = 0.9
GAIN = 0.02


@dataclass(frozen=True, slots=True)
class Best:
    """The configuration to promote, and the mean of its utility against the incumbent."""

    config: LLMConfig
    gain: float


def recommend(problem: DecisionProblem) -> LLMConfig | None:
    """The observed configuration to promote, or None to stay with the present one.

    Asked of it: all hard constraints kept with a probability of 0.9, by the means and by what was measured of
    it; a gain with a probability of 0.9, and of 0.02 in the mean with what a breach would cost taken off by
    its odds: to gain a little more nothing safe is left for what may be past a bound. What was never observed
    or was taken back by the gate is not promoted; nothing is while a hard cooldown runs or hard constraints
    contradict each other.
    """
    if ruled_out(problem):
        return None
    pooled = pooled_history(problem)
    if too_little(problem, pooled):
        return None
    best = promotable(problem, pooled, Priors(pooled, problem.search_space, problem.now))
    return None if best is None else best.config


def pooled_history(problem: DecisionProblem) -> list[Observation]:
    """What was observed, at the prices of now, one observation a configuration, the incumbent's first."""
    history = repriced(problem.history, problem.search_space, problem.now)
    return pool(history, problem.incumbent, problem.now)


def promotable(problem: DecisionProblem, pooled: Sequence[Observation], priors: Priors) -> Best | None:
    """The best of the observed configurations that pass the gate of promotion."""
    found = observed_candidates(problem, pooled)
    weighing = weigh(problem, pooled, found, priors) if found.configs else None
    if weighing is None or not weighing.configs:
        return None
    appraisal = weighing.appraisal
    measured = {pool_key(observation.config): observation.metrics for observation in pooled}
    kept = [_keep(weighing.hard, measured[pool_key(config)]) for config in weighing.configs]
    passing = _passes(appraisal) & np.array(kept)
    if not passing.any():
        return None
    index = int(np.argmax(np.where(passing, appraisal.worth_keeping, -np.inf)))
    return Best(weighing.configs[index], float(appraisal.gain[index]))


def _keep(bounds: Sequence[Bound], measured: Mapping[str, MetricEstimate]) -> bool:
    """Whether what was measured lies within the bounds."""
    return all(bound.keeps(measured[bound.metric].mean) for bound in bounds if bound.metric in measured)


def _passes(appraisal: Appraisal) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which candidates would be promoted, were they observed."""
    return np.asarray(
        appraisal.keeps
        & (appraisal.feasibility >= KEEPING_FEASIBILITY)
        & (appraisal.better >= BETTER)
        & (appraisal.worth_keeping >= GAIN)
    )

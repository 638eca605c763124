"""Everything that is believed of the candidates of one problem, brought together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from domain.config import LLMConfig
from domain.decision.acquisition import (
    SOFT_PENALTY,
    Appraisal,
    Mask,
    appraise,
    may_be_tried,
    non_dominated,
    objective_weights,
)
from domain.decision.bounds import Bound, metric_bounds, soft_weight
from domain.decision.candidates import Candidates
from domain.decision.constraints import allows_model, cooldown_left
from domain.decision.history import Observation
from domain.decision.pooling import PoolKey, pool_key, requests_by_model
from domain.decision.posterior import Array, Belief, Geometry, Points
from domain.decision.priors import Priors
from domain.decision.problem import DecisionProblem
from domain.decision.responses import RESPONSES, SCORED_QUALITY, Response
from domain.plan import Prediction

SHOWN = ("cost.avg", "latency.p95", "latency.avg", "quality.avg", "errors.rate")
"""What a plan predicts beside the metrics of its objectives and constraints, where it was measured."""

CANARY_REQUESTS = 300
"""What a canary is reckoned to be measured on."""


@dataclass(frozen=True, slots=True)
class Weighing:
    """The candidates of a problem with beliefs and appraisal.

    `observed` maps a pool key to its requests; `closeness` is 1 for the incumbent's settings, falling to 0;
    `tries` are those that may be tried next; `unpriced` are models left out because their cost, which the
    policy asks about, cannot be known; `notes` say what else was left out.
    """

    problem: DecisionProblem
    incumbent: Observation
    priors: Priors
    configs: list[LLMConfig]
    beliefs: dict[str, Belief]
    weights: dict[str, float]
    bounds: list[Bound]
    appraisal: Appraisal
    observed: dict[PoolKey, int]
    closeness: Array
    tries: Mask
    unpriced: list[str]
    notes: list[str]

    @property
    def hard(self) -> list[Bound]:
        """The hard bounds, in the order of `appraisal.by_bound`."""
        return [bound for bound in self.bounds if bound.hard]

    def index_of(self, config: LLMConfig) -> int | None:
        """Where a configuration stands among the candidates; None if it is none of them."""
        keys = [pool_key(each) for each in self.configs]
        return keys.index(pool_key(config)) if pool_key(config) in keys else None

    def predictions(self, index: int) -> dict[str, Prediction]:
        """What a candidate is predicted to do; a quality that was never measured has no level to predict."""
        samples = self.observed.get(pool_key(self.configs[index]), 0)
        return {
            metric: RESPONSES[metric].prediction(belief.mean[index], belief.sd[index], samples)
            for metric, belief in self.beliefs.items()
            if metric in self.incumbent.metrics
        }

    def improvement(self, index: int) -> dict[str, float]:
        """Each predicted metric's change as a fraction of the incumbent's, positive is better."""
        return {
            metric: self._fraction(metric, prediction.mean)
            for metric, prediction in self.predictions(index).items()
        }

    def incumbent_value(self, metric: str) -> float:
        """What is believed of the incumbent, in the metric's unit."""
        return RESPONSES[metric].natural(self.beliefs[metric].incumbent)

    def _fraction(self, metric: str, mean: float) -> float:
        present = self.incumbent_value(metric)
        if present == 0:
            return 0.0
        goal = self.weights.get(metric, 1.0 if metric == "quality.avg" else -1.0)
        return float(np.sign(goal)) * (mean - present) / present + 0.0


def weigh(
    problem: DecisionProblem,
    pooled: Sequence[Observation],
    found: Candidates,
    priors: Priors,
    best: float | None = None,
) -> Weighing:
    """Beliefs about the candidates, and their appraisal. A candidate of which the policy's metrics cannot all
    be known is left out.

    `best` is the gain of what could be kept already. `pooled` starts with the incumbent's observation;
    it has every objective's metric, quality excepted.
    """
    weights = objective_weights(problem.objectives)
    bounds = [b for b in metric_bounds(problem.constraints, problem.traffic) if b.metric in RESPONSES]
    measured = pooled[0].metrics
    bounds = [bound for bound in bounds if bound.hard or bound.metric in measured]
    shown = [metric for metric in SHOWN if metric in measured]
    metrics = list(dict.fromkeys([*weights, *(bound.metric for bound in bounds), *shown]))
    configs = found.configs
    geometry = _geometry(pooled, configs, priors)
    beliefs = {
        metric: _believe(metric, pooled, configs, priors, geometry, problem.widening.get(metric, 1.0))
        for metric in metrics
    }
    needed = {*weights, *(bound.metric for bound in bounds)}
    known: Mask = np.all([np.isfinite(beliefs[metric].mean) for metric in needed], axis=0)
    kept = {metric: _restrict(belief, known) for metric, belief in beliefs.items()}
    whole = {metric: belief for metric, belief in kept.items() if np.isfinite(belief.mean).all()}
    left = [config for config, keep in zip(configs, known, strict=True) if keep]
    near = geometry.across.matern[0][known]
    appraisal = appraise(
        whole,
        weights,
        bounds,
        penalty=_penalty(problem, configs)[known],
        pareto=problem.mode == "pareto",
        noise={metric: _canary_noise(metric, pooled[0]) for metric in needed},
        best=best,
    )
    if problem.mode == "pareto":
        appraisal = replace(appraisal, keeps=_front(appraisal.keeps, whole, weights))
    return Weighing(
        problem=problem,
        incumbent=pooled[0],
        priors=priors,
        configs=left,
        beliefs=whole,
        weights=weights,
        bounds=bounds,
        appraisal=appraisal,
        observed={pool_key(o.config): o.n for o in pooled},
        closeness=near,
        tries=may_be_tried(
            appraisal,
            [config.model_key for config in left],
            requests_by_model(problem.history),
            near,
            by_odds=problem.mode == "weighted",
        ),
        notes=found.left_out,
        unpriced=sorted({c.model_key for c, keep in zip(configs, known, strict=True) if not keep}),
    )


def objective_gains(beliefs: Mapping[str, Belief], weights: Mapping[str, float]) -> Array:
    """Candidates x objectives: the expected change of each, more is better."""
    return np.column_stack([np.sign(weight) * beliefs[metric].change for metric, weight in weights.items()])


def _front(keeps: Mask, beliefs: Mapping[str, Belief], weights: Mapping[str, float]) -> Mask:
    """Of the candidates that keep the bounds those that none of them beats in every objective."""
    kept = np.flatnonzero(keeps)
    front = np.zeros(keeps.size, dtype=bool)
    front[kept] = non_dominated(objective_gains(beliefs, weights)[kept])
    return front


def _canary_noise(metric: str, present: Observation) -> float:
    """The error variance of what a canary will measure, judged by the incumbent's measurement."""
    response, estimate = RESPONSES[metric], present.metrics.get(metric)
    if estimate is None:
        return response.noise**2
    _, error = response.modelled(estimate.model_copy(update={"se": estimate.se * _times(present.n)}))
    return error**2 + response.noise**2


def _times(n: int) -> float:
    return float(np.sqrt(n / CANARY_REQUESTS))


def _penalty(problem: DecisionProblem, configs: Sequence[LLMConfig]) -> Array:
    """Utility that each candidate loses to soft constraints on models and on how soon a change may come."""
    lost = np.zeros(len(configs))
    for constraint in problem.constraints:
        if constraint.type == "hard":
            continue
        unwelcome = [not allows_model(constraint, config.provider, config.model) for config in configs]
        too_soon = cooldown_left(constraint, problem.now, problem.last_change_at) > 0
        lost += SOFT_PENALTY * soft_weight(constraint) * (np.array(unwelcome, dtype=np.float64) + too_soon)
    return lost


def _geometry(pooled: Sequence[Observation], configs: Sequence[LLMConfig], priors: Priors) -> Geometry:
    models: dict[str, int] = {}
    observed = Points.of([observation.config for observation in pooled], priors, models)
    return Geometry(observed, Points.of(configs, priors, models))


def _believe(
    metric: str,
    pooled: Sequence[Observation],
    configs: Sequence[LLMConfig],
    priors: Priors,
    geometry: Geometry,
    widening: float,
) -> Belief:
    response = SCORED_QUALITY if metric == "quality.avg" and priors.scored else RESPONSES[metric]
    expected = _means(response, [observation.config for observation in pooled], priors)
    value, variance = _measured(response, pooled)
    believed = geometry.believe(
        response, expected, value - expected, variance, _means(response, configs, priors)
    )
    return believed.widened(widening)


def _means(response: Response, configs: Sequence[LLMConfig], priors: Priors) -> Array:
    return np.array([priors.mean(response, config) for config in configs], dtype=np.float64)


def _measured(response: Response, pooled: Sequence[Observation]) -> tuple[Array, Array]:
    """Values and error variances on the modelled scale; NaN where the metric was not measured.

    What varies from one measurement to the next evens out over several.
    """
    values, variances = np.full(len(pooled), np.nan), np.full(len(pooled), np.nan)
    for index, observation in enumerate(pooled):
        if estimate := observation.metrics.get(response.metric):
            mean, se = response.modelled(estimate, observation.trials)
            values[index], variances[index] = mean, se**2 + response.noise**2 / observation.trials
    return values, variances


def _restrict(belief: Belief, keep: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Belief:
    return Belief(
        mean=belief.mean[keep],
        sd=belief.sd[keep],
        change=belief.change[keep],
        change_sd=belief.change_sd[keep],
        incumbent=belief.incumbent,
        incumbent_sd=belief.incumbent_sd,
    )

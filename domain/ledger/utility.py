"""Whether a plan came true: what its confidence was about, as measured."""

from collections.abc import Mapping
from math import sqrt

import numpy as np

from domain.base import Message
from domain.decision.acquisition import BREACH_COST, objective_weights
from domain.decision.bounds import PER_REQUEST, Bound, metric_bounds
from domain.decision.responses import RESPONSES
from domain.ledger.measurement import Measurement
from domain.policy import ServicePolicy


class Utility(Message):
    """The utility against the incumbent that was measured, by the weights that the plan was chosen by.

    `came_true`: it is positive, and no hard bound on a measured metric is breached (in `pareto` mode no
    objective got worse either), which is what a plan's confidence is the probability of.
    """

    value: float
    se: float
    came_true: bool


def measured_utility(policy: ServicePolicy, measured: Mapping[str, Measurement]) -> Utility | None:
    """The utility of the canary against control; None while an objective has not been measured enough."""
    metrics = [PER_REQUEST.get(objective.metric, objective.metric) for objective in policy.objectives]
    if not all(metric in RESPONSES for metric in metrics):
        return None
    value, variance, sacrificed = 0.0, 0.0, False
    for metric, weight in objective_weights(policy.objectives).items():
        found = measured.get(metric)
        if found is None or found.effect is None or found.se is None:
            return None
        # A logarithm has no unit, and that of the others is the one that they are weighed in.
        response = RESPONSES[metric]
        unit = 1.0 if response.logarithmic else response.unit
        value += weight * found.effect / unit
        variance += (weight * found.se / unit) ** 2
        sacrificed |= bool(-np.sign(weight) * found.effect / unit > response.slack)
    bounds = [bound for bound in metric_bounds(policy.constraints, []) if bound.hard]
    kept = all(_kept(bound, measured, "canary") for bound in bounds)
    # Of an incumbent that breaches a bound itself anything that keeps it is better.
    least = 0.0 if all(_kept(bound, measured, "control") for bound in bounds) else -BREACH_COST
    given_up = policy.mode == "pareto" and sacrificed
    return Utility(value=value, se=sqrt(variance), came_true=value > least and kept and not given_up)


def _kept(bound: Bound, measured: Mapping[str, Measurement], arm: str) -> bool:
    found = measured.get(bound.metric)
    return found is None or bound.keeps(getattr(found, arm))

"""What came of a proposal, as far as it is known: measured against predicted, and against the policy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

from scipy.special import ndtr

from domain.backtest.report import Compared, Interval, Kept, Outcome, Standing, Verdict
from domain.decision.acquisition import objective_weights
from domain.decision.bounds import PER_REQUEST, TRAFFIC_METRICS, Bound, metric_bound
from domain.decision.history import MetricEstimate, Observation
from domain.decision.problem import DecisionProblem
from domain.decision.responses import RESPONSES, Z90
from domain.decision.wording import constraint_name
from domain.deployment import GuardrailReading
from domain.metrics import HIGHER_IS_BETTER
from domain.plan import OptimizationPlan, Prediction
from domain.policy import Constraint

SURE = 0.9
"""The probability from which on a change counts as better, or as worse."""

_Z95 = 1.96


@dataclass(frozen=True, slots=True)
class Pair:
    """A metric of the incumbent and of the proposed configuration.

    `error` is the standard error of their difference on the scale of the metric's `Response`, None where it
    is not known.
    """

    incumbent: float
    proposed: float
    error: float | None


def pairs_of(readings: Sequence[GuardrailReading]) -> dict[str, Pair]:
    """What a rollout measured of canary and control at the same time, by metric.

    Its intervals are 95 % confidence sequences, wider than an interval at one look: the errors are, if
    anything, too large.
    """
    return {
        reading.metric: Pair(reading.control, reading.canary, _error(reading))
        for reading in readings
        if reading.control is not None and reading.canary is not None and reading.metric in RESPONSES
    }


def _error(reading: GuardrailReading) -> float | None:
    if reading.low is None or reading.high is None or reading.canary is None:
        return None
    estimate = MetricEstimate(mean=reading.canary, se=(reading.high - reading.low) / (2 * _Z95))
    return RESPONSES[reading.metric].modelled(estimate)[1]


def pairs_between(incumbent: Observation, proposed: Observation) -> dict[str, Pair]:
    """What was measured of both, each at its own time, by metric."""
    return {
        metric: Pair(
            incumbent.metrics[metric].mean, proposed.metrics[metric].mean, _joint(metric, incumbent, proposed)
        )
        for metric in RESPONSES
        if metric in incumbent.metrics and metric in proposed.metrics
    }


def _joint(metric: str, *observed: Observation) -> float:
    errors = [RESPONSES[metric].modelled(observation.metrics[metric])[1] for observation in observed]
    return sqrt(sum(error**2 for error in errors))


def judge(
    problem: DecisionProblem,
    plan: OptimizationPlan,
    *,
    present: Observation,
    pairs: Mapping[str, Pair],
    served: Observation | None,
) -> Outcome:
    """What `pairs` say of a plan: against its predictions, the problem's objectives and hard constraints.

    `present` is what the problem knew of the incumbent, `served` what was reported of the plan's
    configuration once it was served. Better, or worse, is a utility of the measured objectives that is above
    zero, or below it, with a probability of 90 %; a hard constraint breached for certain makes it worse.
    """
    weights = objective_weights(problem.objectives)
    kept = [_kept(bound, pairs, served) for bound in _hard_bounds(problem)]
    better = _probability_of_gain(weights, pairs)
    return Outcome(
        verdict="worse" if any(breach for _, breach in kept) else _verdict(better),
        evidence="none",
        words="",
        requests=0 if served is None else served.n,
        better=better,
        metrics=[
            _compared(metric, pair, plan.predictions.get(metric), present, weights)
            for metric, pair in pairs.items()
            if metric in plan.predictions or metric in weights
        ],
        constraints=[found for found, _ in kept],
        not_measured=[metric for metric in weights if not _is_measured(metric, pairs)],
    )


def _is_measured(metric: str, pairs: Mapping[str, Pair]) -> bool:
    return metric in pairs and pairs[metric].error is not None


def _verdict(better: float | None) -> Verdict:
    if better is None:
        return "unknown"
    return "better" if better >= SURE else "worse" if better <= 1 - SURE else "undecided"


def _probability_of_gain(weights: Mapping[str, float], pairs: Mapping[str, Pair]) -> float | None:
    """That the utility of the measured objectives is positive; None where none was measured."""
    gain, variance, measured = 0.0, 0.0, False
    for metric, weight in weights.items():
        pair = pairs.get(metric)
        if pair is not None and pair.error is not None:
            measured = True
            gain += weight * _change(metric, pair.incumbent, pair.proposed)
            variance += (weight * pair.error) ** 2
    if not measured:
        return None
    return float(ndtr(gain / sqrt(variance))) if variance > 0 else float(gain > 0)


def _change(metric: str, before: float, after: float) -> float:
    """The difference on the scale of the metric's response."""
    response = RESPONSES[metric]
    return response.modelled_value(after) - response.modelled_value(before)


def _compared(
    metric: str,
    pair: Pair,
    predicted: Prediction | None,
    present: Observation,
    weights: Mapping[str, float],
) -> Compared:
    worth = weights.get(metric, 1.0 if metric in HIGHER_IS_BETTER else -1.0)
    before = present.metrics.get(metric)
    expected = None
    if predicted is not None and before is not None:
        expected = _fraction(before.mean, predicted.mean, worth)
    return Compared(
        metric=metric,
        incumbent=pair.incumbent,
        proposed=pair.proposed,
        change=_fraction(pair.incumbent, pair.proposed, worth),
        predicted_change=expected,
        interval="unknown"
        if predicted is None or before is None
        else _interval(metric, pair, predicted, before),
    )


def _fraction(before: float, after: float, worth: float) -> float | None:
    if before == 0:
        return None
    return (1 if worth > 0 else -1) * (after - before) / abs(before)


def _interval(metric: str, pair: Pair, predicted: Prediction, before: MetricEstimate) -> Interval:
    """Whether the measured change lies in the 90 % interval of prediction and measurement together.

    Changes are compared, not levels: what moved both alike since the prediction is no fault of it.
    """
    if pair.error is None:
        return "unknown"
    low = _change(metric, before.mean, predicted.low)
    mean = _change(metric, before.mean, predicted.mean)
    high = _change(metric, before.mean, predicted.high)
    measured = _change(metric, pair.incumbent, pair.proposed)
    # An end may have been cut off at what the metric can be.
    spread = max(high - mean, mean - low)
    return "held" if abs(measured - mean) <= sqrt(spread**2 + (Z90 * pair.error) ** 2) else "missed"


def _hard_bounds(problem: DecisionProblem) -> list[tuple[Constraint, Bound | None]]:
    return [
        (constraint, metric_bound(constraint, problem.traffic))
        for constraint in problem.constraints
        if constraint.type == "hard"
        and constraint.metric is not None
        and constraint.metric not in TRAFFIC_METRICS
    ]


def _kept(
    hard: tuple[Constraint, Bound | None], pairs: Mapping[str, Pair], served: Observation | None
) -> tuple[Kept, bool]:
    """A hard constraint against what was measured, and whether it is breached for certain."""
    constraint, bound = hard
    name = constraint_name(constraint)
    estimate = None if bound is None else _estimate(bound.metric, pairs, served)
    if bound is None or estimate is None:
        metric = constraint.metric or ""
        return Kept(constraint=name, metric=PER_REQUEST.get(metric, metric)), False
    width = Z90 * estimate.se
    ends = (estimate.mean - width, estimate.mean + width)
    below = bound.low is not None and ends[1] < bound.low
    above = bound.high is not None and ends[0] > bound.high
    standing: Standing = "kept" if bound.keeps(estimate.mean) else "breached"
    kept = Kept(constraint=name, metric=bound.metric, value=estimate.mean, standing=standing)
    return kept, below or above


def _estimate(metric: str, pairs: Mapping[str, Pair], served: Observation | None) -> MetricEstimate | None:
    """What was measured of the proposed configuration: by all of its reports, else by the rollout."""
    if served is not None and metric in served.metrics:
        return served.metrics[metric]
    return MetricEstimate(mean=pairs[metric].proposed, se=0.0) if metric in pairs else None

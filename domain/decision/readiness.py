"""Whether a decision can be made at all, and if not, why."""

from collections.abc import Sequence

from domain.decision import wording
from domain.decision.bounds import PER_REQUEST, TRAFFIC_METRICS, metric_bound
from domain.decision.constraints import cooldown_left
from domain.decision.contradictions import contradictions
from domain.decision.explain import unpredictable
from domain.decision.history import Observation
from domain.decision.problem import DecisionProblem, Skip
from domain.decision.responses import RESPONSES

MIN_REQUESTS = 50
"""Requests of the incumbent below which nothing is decided."""


def ruled_out(problem: DecisionProblem) -> Skip | None:
    """What forbids every change: hard constraints that contradict each other, a cooldown that runs."""
    if faults := contradictions(problem.constraints):
        return Skip(reasoning=f"No configuration can keep the constraints: {'; '.join(faults)}.")
    for constraint in problem.constraints:
        left = cooldown_left(constraint, problem.now, problem.last_change_at)
        if left and constraint.type == "hard":
            return Skip(
                reasoning=f"{wording.constraint_name(constraint)}: the last change is too recent, "
                f"{wording.duration(left)} of the cooldown are left."
            )
    return None


def too_little(problem: DecisionProblem, pooled: Sequence[Observation]) -> Skip | None:
    """What is missing of the incumbent's measurements for anything to be compared with them."""
    metrics = [PER_REQUEST.get(objective.metric, objective.metric) for objective in problem.objectives]
    if foreign := [metric for metric in metrics if metric not in RESPONSES]:
        return unpredictable(foreign)
    if not pooled or not pooled[0].incumbent:
        return Skip(reasoning="Nothing has been observed of the present configuration yet.")
    present = pooled[0]
    if present.n < MIN_REQUESTS:
        return Skip(
            reasoning=f"Only {present.n} requests of the present configuration have been observed; "
            f"a decision takes {MIN_REQUESTS}."
        )
    if missing := [m for m in metrics if m != "quality.avg" and m not in present.metrics]:
        return Skip(
            reasoning=f"{', '.join(missing)} of the present configuration is not known from its "
            f"{present.n:,} requests, so nothing can be compared with it."
        )
    return _unverifiable(problem, present)


def _unverifiable(problem: DecisionProblem, present: Observation) -> Skip | None:
    """A hard bound that no prediction can be held against: nothing may be proposed past it."""
    for constraint in problem.constraints:
        if constraint.type == "soft" or constraint.metric is None or constraint.metric in TRAFFIC_METRICS:
            continue
        bound = metric_bound(constraint, problem.traffic)
        if bound is None:
            return Skip(
                reasoning=f"No traffic is known from which to project {wording.constraint_text(constraint)}."
            )
        if bound.metric in RESPONSES and bound.metric not in present.metrics:
            return Skip(
                reasoning=f"{wording.constraint_text(constraint)} cannot be judged: {bound.metric} of the "
                f"present configuration has not been measured."
            )
    return None

"""Constraints on metrics, brought to what a configuration decides: values per request."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from domain.decision.problem import Traffic
from domain.decision.responses import RESPONSES, Z90
from domain.plan import Prediction
from domain.policy import Constraint

PER_REQUEST = {"cost.total": "cost.avg", "errors.count": "errors.rate"}
"""Totals, and the metric of which they are the sum over the requests."""

TRAFFIC_METRICS = frozenset({"requests.count", "requests.rate"})
"""What no configuration changes."""

DEFAULT_WINDOW_MS = 86_400_000
"""The period of a total whose constraint names none: a day."""

LEAST_FEASIBILITY = 0.15
"""To try is allowed at this probability of keeping every hard bound: a canary is small, and watched by a gate
that holds it to the same bounds."""

LEAST_ODDS_OF_A_GUESS = 0.1
"""To try a model for the first time is allowed at this probability of keeping each hard bound."""

LEAST_ODDS_OF_A_RETRY = 0.25
"""To try a model that was observed is allowed at this one: it may have fallen short by chance."""

KEEPING_FEASIBILITY = 0.9
"""To keep is allowed at this probability of keeping every hard bound."""

_EXACT = 1e-12


@dataclass(frozen=True, slots=True)
class Bound:
    """An interval that a metric must keep; a bound on a total is divided by the `requests` of its period."""

    constraint: Constraint
    metric: str
    low: float | None
    high: float | None
    requests: float | None = None

    @property
    def hard(self) -> bool:
        return self.constraint.type == "hard"

    def keeps(self, value: float) -> bool:
        """Whether a value lies within."""
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


def odds(bound: Bound, estimate: Prediction) -> float:
    """The probability that a predicted value lies within a bound on a metric that is modelled."""
    response = RESPONSES[bound.metric]
    mean, low, high = (response.modelled_value(v) for v in (estimate.mean, estimate.low, estimate.high))
    # An end of the interval may have been cut off where the metric ends.
    sd = max(high - mean, mean - low) / Z90
    reach = NormalDist(mean, max(sd, _EXACT))
    above = 0.0 if bound.low is None else reach.cdf(response.modelled_value(bound.low))
    below = 1.0 if bound.high is None else reach.cdf(response.modelled_value(bound.high))
    return max(below - above, 0.0)


def soft_weight(constraint: Constraint) -> int:
    """The weight of a soft constraint: its priority, 1 unless given."""
    return max(1, constraint.priority or 1)


def requests_in(window_ms: int, traffic: Sequence[Traffic]) -> float | None:
    """The requests to expect in a window, at the rate of the period observed that is nearest in length."""
    observed = [period for period in traffic if period.requests > 0]
    if not observed:
        return None
    nearest = min(observed, key=lambda period: abs(period.window_ms - window_ms))
    return nearest.requests * window_ms / nearest.window_ms


def metric_bound(constraint: Constraint, traffic: Sequence[Traffic]) -> Bound | None:
    """The bound of a constraint; None if it has none, or is on a total and the traffic is not known."""
    if constraint.metric is None:
        return None
    metric = PER_REQUEST.get(constraint.metric)
    if metric is None:
        return Bound(constraint, constraint.metric, constraint.min, constraint.max)
    requests = requests_in(constraint.window_ms or DEFAULT_WINDOW_MS, traffic)
    if requests is None:
        return None
    low = None if constraint.min is None else constraint.min / requests
    high = None if constraint.max is None else constraint.max / requests
    return Bound(constraint, metric, low, high, requests)


def metric_bounds(constraints: Iterable[Constraint], traffic: Sequence[Traffic]) -> list[Bound]:
    """The bounds that a configuration can be held to."""
    found = (metric_bound(constraint, traffic) for constraint in constraints)
    return [bound for bound in found if bound is not None and bound.metric not in TRAFFIC_METRICS]

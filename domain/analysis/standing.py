"""How the present configuration stands: its metrics, how sure they are, and the bounds it breaches."""

from collections.abc import Sequence

from domain.base import Message
from domain.decision.history import Observation
from domain.plan import Prediction
from domain.policy import Constraint

Z_90 = 1.645


class Breach(Message):
    """A bound that the present configuration does not keep; `certain` when its whole interval is out."""

    constraint: str
    metric: str
    value: float
    bound: float
    certain: bool


class Standing(Message):
    """The incumbent's metrics with 90 % intervals, and the breached bounds."""

    requests: int
    metrics: dict[str, Prediction]
    breaches: list[Breach]

    def in_words(self) -> str:
        """One line."""
        if not self.requests:
            return "nothing was reported for the present configuration"
        told = ", ".join(f"{name} {value.mean:.4g}" for name, value in sorted(self.metrics.items()))
        breached = "; ".join(
            f"{breach.metric} {breach.value:.4g} is past {breach.bound:g}"
            f"{'' if breach.certain else ' (within the noise)'}"
            for breach in self.breaches
        )
        return f"{self.requests} requests: {told}" + (f". Breached: {breached}" if breached else "")


def standing(incumbent: Observation | None, constraints: Sequence[Constraint]) -> Standing:
    """Judge what was observed of the present configuration; None where nothing was."""
    if incumbent is None:
        return Standing(requests=0, metrics={}, breaches=[])
    metrics = {
        name: Prediction(
            mean=estimate.mean,
            low=estimate.mean - Z_90 * estimate.se,
            high=estimate.mean + Z_90 * estimate.se,
            samples=incumbent.n if estimate.n is None else estimate.n,
        )
        for name, estimate in incumbent.metrics.items()
    }
    breaches = [breach for constraint in constraints if (breach := _breach(constraint, metrics))]
    return Standing(requests=incumbent.n, metrics=metrics, breaches=breaches)


def _breach(constraint: Constraint, metrics: dict[str, Prediction]) -> Breach | None:
    value = metrics.get(constraint.metric or "")
    if value is None or constraint.metric is None:
        return None
    name = constraint.id or constraint.description or constraint.metric
    if constraint.max is not None and value.mean > constraint.max:
        certain, bound = value.low > constraint.max, constraint.max
    elif constraint.min is not None and value.mean < constraint.min:
        certain, bound = value.high < constraint.min, constraint.min
    else:
        return None
    return Breach(constraint=name, metric=constraint.metric, value=value.mean, bound=bound, certain=certain)

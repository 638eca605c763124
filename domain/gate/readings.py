"""What the arms measured, with intervals, for people to read.

Both arms' figures are means over the buckets that both had requests in, with one weight per bucket, so that
their difference is what the arms differ by and not when each was busy. Intervals are asymptotic 95 %
confidence sequences (two-sided normal mixture, Howard et al. 2021): they hold at all looks at once. That of
latency.p95 comes from the two arms' own quantile intervals and is conservative.
"""

from domain.deployment import GuardrailReading, RollbackTrigger, Samples
from domain.gate.evidence import MIN_COSTS, MIN_LATENCIES, MIN_SCORES, SCORE_DOUBT, Finding
from domain.gate.means import ArmSums, Excess, PairSums
from domain.gate.settings import METRIC_OF, Key
from domain.gate.sketch import Sketch
from domain.gate.state import GateState
from domain.gate.tail import P95

ALPHA = 0.05


def reading(state: GateState, finding: Finding) -> GuardrailReading:
    """The guardrail's figures in its metric's own unit; difference, low and high are canary less control."""
    if finding.key == "tail":
        return _tail(state, finding)
    pair, enough, doubt = compared(state, finding.key)
    if pair.weight == 0:
        return _alone(state, finding)
    difference = pair.canary_mean - pair.control_mean
    radius = pair.excess(1.0, 0.0, doubt).radius(ALPHA) / pair.weight if pair.smaller >= enough else None
    return GuardrailReading(
        metric=METRIC_OF[finding.key],
        control=pair.control_mean,
        canary=pair.canary_mean,
        difference=difference,
        low=None if radius is None else difference - radius,
        high=None if radius is None else difference + radius,
        evidence=finding.harm,
        samples=Samples(control=pair.control.n, canary=pair.canary.n),
    )


def judged(state: GateState, finding: Finding) -> float | None:
    """The canary's figure that the guardrail is about: over all its requests where the metric has a bound."""
    if finding.settings.bound is None:
        return reading(state, finding).canary
    return _alone(state, finding).canary


def limit(state: GateState, finding: Finding) -> float | None:
    """What that figure is to keep to: the bound, or control's figure with the margin."""
    if finding.settings.bound is not None:
        return finding.settings.bound
    control, tolerance = reading(state, finding).control, finding.settings.tolerance
    if control is None:
        return None
    return control - tolerance if finding.key == "quality" else control * (1 + tolerance)


def trigger(state: GateState, finding: Finding) -> RollbackTrigger:
    """The guardrail as a cause of a rollback."""
    threshold, actual = limit(state, finding), judged(state, finding)
    return RollbackTrigger(metric=METRIC_OF[finding.key], threshold=threshold or 0.0, actual=actual or 0.0)


def compared(state: GateState, key: Key) -> tuple[PairSums, int, float]:
    """Both arms' sums, the values that an interval needs, and the doubt about their variance."""
    if key == "errors":
        return state.errors.pair, 1, 1.0
    if key == "quality":
        return state.quality.pair, MIN_SCORES, SCORE_DOUBT
    pair = state.cost.pair if key == "cost" else state.latency.pair
    return pair, MIN_COSTS if key == "cost" else MIN_LATENCIES, max(pair.control_mean, pair.canary_mean)


def _alone(state: GateState, finding: Finding) -> GuardrailReading:
    """The canary by itself, where nothing runs beside it or the metric has a bound."""
    if finding.key == "errors":
        errors, n = state.errors.canary
        figure = errors / n if n else None
    elif finding.key == "tail":
        n, figure = state.tail.n, state.tail.alone.quantiles([P95])[0]
    else:
        arm: ArmSums = getattr(state, finding.key).canary
        n, figure = arm.n, arm.mean if arm.n else None
    return GuardrailReading(
        metric=METRIC_OF[finding.key],
        canary=figure,
        evidence=finding.harm,
        samples=Samples(control=0, canary=n),
    )


def _tail(state: GateState, finding: Finding) -> GuardrailReading:
    pair, tail = state.ln_latency, state.tail
    if pair.weight == 0:
        return _alone(state, finding)
    control, control_low, control_high = _p95(tail.control, pair, pair.control_v)
    canary, canary_low, canary_high = _p95(tail.canary, pair, pair.canary_v)
    return GuardrailReading(
        metric=METRIC_OF["tail"],
        control=control,
        canary=canary,
        difference=_minus(canary, control),
        low=_minus(canary_low, control_high),
        high=_minus(canary_high, control_low),
        evidence=finding.harm,
        samples=Samples(control=pair.control.n, canary=pair.canary.n),
    )


def _p95(sketch: Sketch, pair: PairSums, v: float) -> tuple[float | None, ...]:
    """The quantile and its interval at 1 - ALPHA/2; an end is None where the values do not reach so far."""
    part_above = Excess(0.0, v, v * P95 * (1 - P95))
    radius = part_above.radius(ALPHA / 2) / pair.weight
    return tuple(sketch.quantiles([P95, P95 - radius, P95 + radius]))


def _minus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b

"""What a rollout measured, canary against control at the same time, from the gate's sums."""

from collections.abc import Callable
from math import log, sqrt
from typing import NamedTuple

from scipy.special import ndtri

from domain.base import Message
from domain.deployment import Samples
from domain.gate.evidence import MIN_LATENCIES, Finding
from domain.gate.means import Excess, PairSums
from domain.gate.readings import ALPHA, compared, reading
from domain.gate.settings import KEYS, METRIC_OF, GateSettings, Key
from domain.gate.sketch import Sketch
from domain.gate.state import GateState
from domain.gate.tail import P95
from domain.metrics import HIGHER_IS_BETTER

_Z95 = float(ndtri(1 - ALPHA / 2))


class Measurement(Message):
    """One metric in both arms.

    `difference` is canary less control, [`low`, `high`] its 95 % confidence sequence, absent below the number
    of values that it needs; all in the metric's unit. `effect` is on the scale of `effects`, `se` its
    standard error at a fixed number of requests, and `se_anytime` what that comes to by the confidence
    sequence, which holds whatever made the rollout stop when it did.
    """

    control: float
    canary: float
    difference: float
    low: float | None = None
    high: float | None = None
    effect: float | None = None
    se: float | None = None
    se_anytime: float | None = None
    samples: Samples


class _Spread(NamedTuple):
    effect: float
    se: float
    se_anytime: float


def measure(state: GateState) -> dict[str, Measurement]:
    """Every metric that both arms have values of, whether or not its guardrail is enabled."""
    found = {}
    for key in KEYS:
        seen = reading(state, Finding(key, GateSettings().guardrail(key), True, 1.0, 1.0))
        if seen.control is None or seen.canary is None or seen.difference is None:
            continue
        spread = _SPREADS[key](state, key)
        found[METRIC_OF[key]] = Measurement(
            control=seen.control,
            canary=seen.canary,
            difference=seen.difference,
            low=seen.low,
            high=seen.high,
            effect=spread.effect if spread else None,
            se=spread.se if spread else None,
            se_anytime=spread.se_anytime if spread else None,
            samples=seen.samples,
        )
    return found


def improvement(metric: str, control: float, difference: float) -> float | None:
    """Canary against control as a fraction of control, positive is better; None where control is nil."""
    if control == 0:
        return None
    change = difference / abs(control)
    return change if metric in HIGHER_IS_BETTER else -change


def _difference(state: GateState, key: Key) -> _Spread | None:
    pair, enough, doubt = compared(state, key)
    if pair.weight == 0 or pair.smaller < enough:
        return None
    return _of_excess(pair.canary_mean - pair.control_mean, pair.excess(1.0, 0.0, doubt), pair.weight)


def _ratio(state: GateState, key: Key) -> _Spread | None:
    """ln of the ratio of the means by the delta method, with the strata's weights in both arms."""
    pair, enough, doubt = compared(state, key)
    if pair.smaller < enough or pair.control_sum <= 0 or pair.canary_sum <= 0:
        return None
    ratio = pair.canary_sum / pair.control_sum
    return _of_excess(log(ratio), pair.excess(ratio, 0.0, doubt), pair.canary_sum)


def _of_excess(effect: float, excess: Excess, scale: float) -> _Spread:
    return _Spread(effect, sqrt(excess.variance) / scale, excess.radius(ALPHA) / (_Z95 * scale))


def _tail(state: GateState, _: Key) -> _Spread | None:
    """ln of the ratio of the 95th percentiles, with errors from the quantiles a step to either side.

    (Woodruff, JASA 1952.)
    """
    pair, tail = state.ln_latency, state.tail
    if pair.weight == 0 or pair.smaller < MIN_LATENCIES:
        return None
    arms = [_Arm.of(tail.control, pair, pair.control_v), _Arm.of(tail.canary, pair, pair.canary_v)]
    control, canary = arms
    if control is None or canary is None:
        return None
    return _Spread(
        canary.ln_p95 - control.ln_p95,
        sqrt(control.se**2 + canary.se**2),
        sqrt(control.se_anytime**2 + canary.se_anytime**2),
    )


class _Arm(NamedTuple):
    ln_p95: float
    se: float
    se_anytime: float

    @classmethod
    def of(cls, sketch: Sketch, pair: PairSums, v: float) -> "_Arm | None":
        """One arm's tail; None where the values do not reach so far."""
        share = Excess(0.0, v, v * P95 * (1 - P95))
        steps = (sqrt(share.variance) / pair.weight, share.radius(ALPHA) / (_Z95 * pair.weight))
        (p95,) = sketch.quantiles([P95])
        spreads = [_step(sketch, step) for step in steps]
        if p95 is None or spreads[0] is None:
            return None
        # Where the longer step leaves the values, the shorter is stretched to its length.
        anytime = spreads[1] if spreads[1] is not None else spreads[0] * steps[1] / steps[0]
        return cls(log(p95), spreads[0], anytime)


def _step(sketch: Sketch, step: float) -> float | None:
    low, high = sketch.quantiles([P95 - step, P95 + step])
    return None if low is None or high is None else log(high / low) / 2


_SPREADS: dict[Key, Callable[[GateState, Key], _Spread | None]] = {
    "errors": _difference,
    "tail": _tail,
    "latency": _ratio,
    "cost": _ratio,
    "quality": _difference,
}

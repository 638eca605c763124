"""The e-values of each guardrail, for harm and against critical harm, and their combination."""

from collections.abc import Iterable
from math import log
from typing import NamedTuple

from domain.gate.counts import Count, against_bound, at_odds, evidence, mixture
from domain.gate.errors import HARM_MULTIPLES, PROOF_MULTIPLES
from domain.gate.means import HARM_RHO, PROOF_RHO, Excess
from domain.gate.settings import KEYS, GateSettings, GuardrailSettings, Key
from domain.gate.state import GateState, MeanState
from domain.gate.tail import MULTIPLES, P95

# Less of a difference in error rates is nobody's reason to roll back.
MIN_ERROR_DIFFERENCE = 0.005
# Below this rate errors are no critical harm, whatever control's are.
HARMLESS_ERROR_RATE = 0.02
HARMLESS_ALTERNATIVES = (1e-4, 0.0025, 0.005, 0.01)
# Values in the smaller arm before a mean is judged.
MIN_LATENCIES = 30
MIN_COSTS = 50
MIN_SCORES = 20
# How far from the mean the imagined value lies that stands for what was not seen yet: half the scale of
# scores, a factor of 1.6 in latency; for amounts in their own unit, the amount itself.
SCORE_DOUBT = 50.0
LN_LATENCY_DOUBT = 0.5

_SMALLEST_BOUND = 1e-6


class Finding(NamedTuple):
    """A guardrail's evidence.

    `harm` is the e-value against "no worse than the margin or bound", `proof` that against "critically
    harmful". Both are 1, no evidence, where the guardrail is not `present` for want of data.
    """

    key: Key
    settings: GuardrailSettings
    present: bool
    harm: float
    proof: float


def findings(state: GateState, settings: GateSettings) -> list[Finding]:
    """One per enabled guardrail."""
    found = []
    for key in KEYS:
        guardrail = settings.guardrail(key)
        if guardrail.enabled:
            values = _JUDGES[key](state, guardrail)
            harm, proof = values or (1.0, 1.0)
            found.append(Finding(key, guardrail, values is not None, harm, proof))
    return found


def combined(found: Iterable[Finding]) -> float:
    """The weighted average of the e-values for harm of the guardrails that have data (Vovk & Wang 2021)."""
    present = [finding for finding in found if finding.present and finding.settings.weight > 0]
    if not present:
        return 1.0
    total = sum(finding.settings.weight for finding in present)
    return sum(finding.settings.weight * finding.harm for finding in present) / total


def _errors(state: GateState, guardrail: GuardrailSettings) -> tuple[float, float] | None:
    canary = state.errors.canary
    if guardrail.bound is not None:
        if canary.trials == 0:
            return None
        bound = _proportion(guardrail.bound)
        worse = _proportion(guardrail.bound * (1 + guardrail.critical))
        return _against_bounds(canary, bound, HARM_MULTIPLES, canary, worse, PROOF_MULTIPLES)
    pair = state.errors.pair
    if pair.weight == 0:
        return None
    harm = mixture(state.errors.harm)
    if pair.canary_mean - pair.control_mean < MIN_ERROR_DIFFERENCE:
        harm = min(harm, 1.0)
    # Critical harm is both: several times control's rate, and a rate that matters.
    absolute = against_bound(canary, HARMLESS_ERROR_RATE, HARMLESS_ALTERNATIVES)
    return harm, max(mixture(state.errors.proof), absolute)


def _tail(state: GateState, guardrail: GuardrailSettings) -> tuple[float, float] | None:
    tail = state.tail
    if guardrail.bound is not None:
        if tail.n == 0:
            return None
        over, worse = Count(tail.over, tail.n), Count(tail.over_worse, tail.n)
        return _against_bounds(over, 1 - P95, MULTIPLES, worse, 1 - P95, MULTIPLES)
    if state.ln_latency.weight == 0:
        return None
    return mixture(tail.harm), mixture(tail.proof)


def _latency(state: GateState, guardrail: GuardrailSettings) -> tuple[float, float] | None:
    if guardrail.bound is not None:
        # A ceiling on the mean is meant in milliseconds; the mean of logarithms would say less.
        return _amount_against_ceiling(state.latency, guardrail, guardrail.bound)
    pair = state.ln_latency
    if pair.weight == 0:
        return None
    if pair.smaller < MIN_LATENCIES:
        return 1.0, 1.0
    harm = pair.excess(1.0, log(1 + guardrail.tolerance), LN_LATENCY_DOUBT)
    proof = pair.excess(1.0, log(1 + guardrail.critical), LN_LATENCY_DOUBT).reversed()
    return _evidences(harm, proof)


def _cost(state: GateState, guardrail: GuardrailSettings) -> tuple[float, float] | None:
    if guardrail.bound is not None:
        return _amount_against_ceiling(state.cost, guardrail, guardrail.bound)
    pair = state.cost.pair
    scale = max(pair.control_mean, pair.canary_mean)
    if scale == 0:
        # Nothing was priced in one arm, or everything is free in both.
        return None
    if pair.smaller < MIN_COSTS:
        return 1.0, 1.0
    harm = pair.excess(1 + guardrail.tolerance, 0.0, scale)
    proof = pair.excess(1 + guardrail.critical, 0.0, scale).reversed()
    return _evidences(harm, proof)


def _quality(state: GateState, guardrail: GuardrailSettings) -> tuple[float, float] | None:
    if guardrail.bound is not None:
        arm = state.quality.canary
        if arm.n == 0:
            return None
        if arm.n < MIN_SCORES:
            return 1.0, 1.0
        harm = Excess.over_bound(arm, guardrail.bound, SCORE_DOUBT).reversed()
        proof = Excess.over_bound(arm, guardrail.bound - guardrail.critical, SCORE_DOUBT)
        return _evidences(harm, proof)
    pair = state.quality.pair
    if pair.weight == 0:
        return None
    if pair.smaller < MIN_SCORES:
        return 1.0, 1.0
    harm = pair.excess(1.0, -guardrail.tolerance, SCORE_DOUBT).reversed()
    return _evidences(harm, pair.excess(1.0, -guardrail.critical, SCORE_DOUBT))


_JUDGES = {"errors": _errors, "tail": _tail, "latency": _latency, "cost": _cost, "quality": _quality}


def _amount_against_ceiling(
    state: MeanState, guardrail: GuardrailSettings, ceiling: float
) -> tuple[float, float] | None:
    arm = state.canary
    if arm.n == 0:
        return None
    if arm.n < MIN_COSTS:
        return 1.0, 1.0
    doubt = max(abs(ceiling), arm.mean)
    if doubt == 0:
        return None
    harm = Excess.over_bound(arm, ceiling, doubt)
    proof = Excess.over_bound(arm, ceiling * (1 + guardrail.critical), doubt).reversed()
    return _evidences(harm, proof)


def _evidences(harm: Excess, proof: Excess) -> tuple[float, float]:
    return evidence(harm.ln_evidence(HARM_RHO)), evidence(proof.ln_evidence(PROOF_RHO))


def _against_bounds(
    harm: Count,
    bound: float,
    harm_multiples: Iterable[float],
    proof: Count,
    worse: float,
    proof_multiples: Iterable[float],
) -> tuple[float, float]:
    above = [at_odds(bound, multiple) for multiple in harm_multiples]
    below = [at_odds(worse, 1 / multiple) for multiple in proof_multiples]
    return against_bound(harm, bound, above), against_bound(proof, worse, below)


def _proportion(bound: float) -> float:
    return min(max(bound, _SMALLEST_BOUND), 1 - _SMALLEST_BOUND)

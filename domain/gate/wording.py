"""A verdict in plain words, with the numbers that led to it."""

from collections.abc import Iterable, Sequence

from domain.gate.evidence import HARMLESS_ERROR_RATE, Finding
from domain.gate.readings import judged, limit, reading
from domain.gate.settings import METRIC_OF, Key
from domain.gate.state import GateState

UNSCORED_MODEL = "The model changed and no quality was measured: a person has to approve full exposure."


def harm(state: GateState, causes: Sequence[Finding], total: float, threshold: float) -> str:
    """Why to roll back."""
    return (
        f"The canary is worse: {_described(state, causes)}. "
        f"Combined evidence {_number(total)} of {_number(threshold)} after {_requests(state)}."
    )


def standing(state: GateState, found: Sequence[Finding], total: float, threshold: float) -> str:
    """How things stand while nothing is amiss."""
    if state.canary_requests == 0:
        return "The canary has had no request yet."
    present = [finding for finding in found if finding.present]
    if not present:
        return f"After {_requests(state)} nothing can be judged: no control beside them, no floor or ceiling."
    worst = max(present, key=lambda finding: finding.harm)
    closest = f" Nearest to harm: {_described(state, [worst])}." if worst.harm > 1 else ""
    return (
        f"No harm shown after {_requests(state)}: evidence {_number(total)} of {_number(threshold)}.{closest}"
    )


def too_few(requests: int, needed: int) -> str:
    """A step without traffic."""
    return f"The canary has had {requests} requests, and {needed} are needed for a verdict."


def suspicion(state: GateState, suspects: Sequence[Finding]) -> str:
    """A step to be extended."""
    return f"Signs of harm, too weak to roll back: {_described(state, suspects)}."


def unproven(state: GateState, findings: Sequence[Finding], needed: float) -> str:
    """A canary that may not go to everyone yet."""
    parts = ", ".join(
        f"{METRIC_OF[finding.key]} {_worst(finding)} (proof {_number(finding.proof)} of {_number(needed)})"
        for finding in findings
    )
    return f"Critical harm is not ruled out yet after {_requests(state)}: {parts}."


def split_off(state: GateState, mismatch: float) -> str:
    """A sample ratio that contradicts the share."""
    split = state.split
    return (
        f"The canary got {_number(split.observed)} % of {split.control + split.canary} requests "
        f"at a share of {_number(split.share)} % (evidence {_number(mismatch)}): routing or attribution "
        "is broken, or a few callers make most of the traffic, so the arms cannot be compared safely."
    )


def left_out(metrics: Iterable[str]) -> str:
    """Guardrails without data."""
    return f"Left out for want of data: {', '.join(metrics)}."


def _described(state: GateState, findings: Iterable[Finding]) -> str:
    ordered = sorted(findings, key=lambda finding: -finding.harm)
    return "; ".join(_figures(state, finding) for finding in ordered)


def _figures(state: GateState, finding: Finding) -> str:
    metric, key = METRIC_OF[finding.key], finding.key
    actual, allowed = judged(state, finding), limit(state, finding)
    canary = "unknown" if actual is None else _value(key, actual)
    strength = f"evidence {_number(finding.harm)}"
    if finding.settings.bound is not None:
        bound = "floor" if key == "quality" else "ceiling"
        return f"{metric} {canary}, {bound} {_value(key, finding.settings.bound)} ({strength})"
    control = reading(state, finding).control
    if control is None or allowed is None:
        return f"{metric} {canary} ({strength})"
    allowance = f"allowed {_value(key, allowed)}"
    return f"{metric} {canary} against {_value(key, control)} in control ({allowance}, {strength})"


def _worst(finding: Finding) -> str:
    settings, key = finding.settings, finding.key
    if settings.bound is not None:
        worse = settings.bound * (1 + settings.critical)
        if key == "quality":
            return f"below {_value(key, settings.bound - settings.critical)}"
        return f"above {_value(key, worse)}"
    if key == "quality":
        return f"-{_number(settings.critical)}"
    if key == "errors":
        return f"x{_number(1 + settings.critical)} and above {_number(100 * HARMLESS_ERROR_RATE)} %"
    return f"+{_number(100 * settings.critical)} %"


def _value(key: Key, value: float) -> str:
    if key == "errors":
        return f"{_number(100 * value)} %"
    if key in ("tail", "latency"):
        return f"{_number(value)} ms"
    return f"${_number(value)}" if key == "cost" else _number(value)


def _requests(state: GateState) -> str:
    return f"{state.canary_requests} canary requests"


def _number(value: float) -> str:
    """Three digits, as people write them: never 1e+03."""
    digits = float(f"{value:.3g}")
    return f"{digits:.0f}" if abs(digits) >= 1000 or digits == int(digits) else f"{digits:.10f}".rstrip("0")

"""Hard constraints that no configuration can keep together."""

from collections.abc import Sequence
from itertools import combinations

from domain.decision.bounds import DEFAULT_WINDOW_MS, PER_REQUEST
from domain.decision.wording import constraint_name, constraint_text
from domain.policy import Constraint

_LATENCY_ORDER = ("latency.p50", "latency.p95", "latency.p99")
_DOMAINS = {"quality.avg": (0.0, 100.0), "errors.rate": (0.0, 1.0)}
_NOT_NEGATIVE = (0.0, float("inf"))


def contradictions(constraints: Sequence[Constraint]) -> list[str]:
    """Each contradiction among the hard constraints, in words that name both sides."""
    hard = [constraint for constraint in constraints if constraint.type == "hard"]
    found = [text for constraint in hard if (text := _impossible(constraint))]
    for one, other in combinations(hard, 2):
        if text := _crossed(one, other) or _crossed(other, one) or _no_common_model(one, other):
            found.append(text)
    return found


def _impossible(constraint: Constraint) -> str | None:
    if constraint.metric is None:
        return None
    low, high = _DOMAINS.get(constraint.metric, _NOT_NEGATIVE)
    if (constraint.min is not None and constraint.min > high) or (
        constraint.max is not None and constraint.max < low
    ):
        return f"{_title(constraint)} cannot be kept: {constraint.metric} lies within {low:g}..{high:g}"
    return None


def _crossed(floor: Constraint, ceiling: Constraint) -> str | None:
    if floor.min is None or ceiling.max is None or floor.min <= ceiling.max:
        return None
    if floor.metric is None or ceiling.metric is None or not _comparable(floor, ceiling):
        return None
    return f"{_title(floor)} and {_title(ceiling)} contradict each other"


def _comparable(floor: Constraint, ceiling: Constraint) -> bool:
    """Whether the floor's metric is, or cannot exceed, that of the ceiling."""
    if floor.metric == ceiling.metric:
        return floor.metric not in PER_REQUEST or _window(floor) == _window(ceiling)
    if floor.metric in _LATENCY_ORDER and ceiling.metric in _LATENCY_ORDER:
        return _LATENCY_ORDER.index(floor.metric) < _LATENCY_ORDER.index(ceiling.metric)
    return False


def _window(constraint: Constraint) -> int:
    return constraint.window_ms or DEFAULT_WINDOW_MS


def _no_common_model(one: Constraint, other: Constraint) -> str | None:
    if one.models is None or other.models is None:
        return None
    if any(_same_model(a, b) for a in one.models for b in other.models):
        return None
    return f"{_title(one)} and {_title(other)} allow no model in common"


def _same_model(one: str, other: str) -> bool:
    """`gpt-4o` and `openai/gpt-4o` may be one model."""
    return one == other or one.endswith(f"/{other}") or other.endswith(f"/{one}")


def _title(constraint: Constraint) -> str:
    name, text = constraint_name(constraint), constraint_text(constraint)
    return name if name == text else f"{name} ({text})"

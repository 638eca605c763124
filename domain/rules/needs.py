"""What has to be read for conditions to be judged."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from domain.conditions import (
    AllCondition,
    AnomalyCondition,
    AnyCondition,
    Condition,
    MetricCondition,
    NotCondition,
    TrendCondition,
    Window,
)

Leaf = MetricCondition | TrendCondition | AnomalyCondition


@dataclass(frozen=True, slots=True)
class Needs:
    """By window, how many windows back are asked for; the metrics; whether trends or anomalies are."""

    windows: dict[Window, int] = field(default_factory=dict)
    metrics: frozenset[str] = frozenset()
    findings: bool = False


def leaves(condition: Condition) -> Iterator[Leaf]:
    """The conditions that a condition is made of, itself where it is not made of others."""
    match condition:
        case AllCondition():
            parts = condition.all
        case AnyCondition():
            parts = condition.any
        case NotCondition():
            parts = [condition.not_]
        case _:
            yield condition
            return
    for part in parts:
        yield from leaves(part)


def readings(condition: Condition) -> int:
    """How many readings of windows a condition takes."""
    return sum(
        (leaf.for_windows or 1) if isinstance(leaf, MetricCondition) else 1 for leaf in leaves(condition)
    )


def needs(conditions: Iterable[Condition]) -> Needs:
    """What all of some conditions take."""
    windows: dict[Window, int] = {}
    metrics: set[str] = set()
    findings = False
    for condition in conditions:
        for leaf in leaves(condition):
            if isinstance(leaf, MetricCondition):
                metrics.add(leaf.metric)
                windows[leaf.window] = max(windows.get(leaf.window, 0), leaf.for_windows or 1)
            else:
                findings = True
    return Needs(windows, frozenset(metrics), findings)

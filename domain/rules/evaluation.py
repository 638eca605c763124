"""Whether a condition holds, by Kleene's strong logic of three values, and the words with the numbers.

What rests on missing or too few data is unknown, and unknown stays unknown unless the other parts settle it:
`all` fails by one part that fails, `any` holds by one that holds (Kleene 1952, section 64).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import ge, gt, le, lt
from typing import Literal

from domain.analysis.windows import MIN_REQUESTS, MIN_SCORES
from domain.conditions import (
    SEVERITIES,
    AllCondition,
    AnomalyCondition,
    AnyCondition,
    Condition,
    MetricCondition,
    NotCondition,
    TrendCondition,
)
from domain.rules.signals import Reading, Signals

Truth = Literal["holds", "fails", "unknown"]

_COMPARE = {">": gt, ">=": ge, "<": lt, "<=": le}
_OPPOSITE: dict[Truth, Truth] = {"holds": "fails", "fails": "holds", "unknown": "unknown"}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A condition's truth, and why, in words with the numbers."""

    truth: Truth
    words: str

    @property
    def holds(self) -> bool:
        """Whether it holds for certain."""
        return self.truth == "holds"


def evaluate(condition: Condition, signals: Signals) -> Evaluation:
    """Judge a condition by what is known."""
    match condition:
        case MetricCondition():
            return _metric(condition, signals)
        case TrendCondition():
            return _trend(condition, signals)
        case AnomalyCondition():
            return _anomaly(condition, signals)
        case AllCondition():
            return _together([evaluate(part, signals) for part in condition.all], settled_by="fails")
        case AnyCondition():
            return _together([evaluate(part, signals) for part in condition.any], settled_by="holds")
        case NotCondition():
            inner = evaluate(condition.not_, signals)
            return Evaluation(_OPPOSITE[inner.truth], inner.words)


def _together(parts: Sequence[Evaluation], *, settled_by: Truth) -> Evaluation:
    """Several parts: settled by one that is so, else unknown by one that is, else the opposite by all."""
    found = [part for part in parts if part.truth == settled_by]
    if found:
        return Evaluation(settled_by, _joined(found))
    unknown = [part for part in parts if part.truth == "unknown"]
    if unknown:
        return Evaluation("unknown", _joined(unknown))
    return Evaluation(_OPPOSITE[settled_by], _joined(parts))


def _joined(parts: Sequence[Evaluation]) -> str:
    return " and ".join(dict.fromkeys(part.words for part in parts))


def _metric(condition: MetricCondition, signals: Signals) -> Evaluation:
    count = condition.for_windows or 1
    parts = [_window(condition, signals, back) for back in range(count)]
    for truth in ("fails", "unknown"):
        if found := next((part for part in parts if part.truth == truth), None):
            return found
    in_each = f", in each of {count} windows" if count > 1 else ""
    return Evaluation("holds", parts[0].words + in_each)


def _window(condition: MetricCondition, signals: Signals, back: int) -> Evaluation:
    name, window = condition.metric, condition.window
    when = f"over {window}" + (f", {back} window{'s' if back > 1 else ''} before" if back else "")
    reading = signals.reading(name, window, back)
    if why := _too_little(name, reading):
        return Evaluation("unknown", f"{name} {when} is not known: {why}")
    assert reading is not None
    assert reading.value is not None
    # Sums of fractions differ in the last digits by the order of their parts.
    value = float(f"{reading.value:.12g}")
    shown = f"{condition.op} {condition.value:g} {when}"
    if _COMPARE[condition.op](value, condition.value):
        return Evaluation("holds", f"{name} {_number(value)} {shown}")
    return Evaluation("fails", f"{name} {_number(value)} is not {shown}")


def _too_little(metric: str, reading: Reading | None) -> str | None:
    """Why a reading says nothing; None where it does."""
    kind = metric.partition(".")[0]
    if reading is None:
        return "nothing was read"
    if kind == "requests":
        return None if reading.value is not None else "nothing was read"
    least, what = (MIN_SCORES, "score") if kind == "quality" else (MIN_REQUESTS, "call")
    if reading.samples < least or reading.value is None:
        return f"{reading.samples} {what}{'s' if reading.samples != 1 else ''} where it takes {least}"
    return None


def _trend(condition: TrendCondition, signals: Signals) -> Evaluation:
    name, asked, window = condition.trend, condition.direction, condition.window
    found = signals.trend(name, window)
    if found is None:
        return Evaluation("unknown", f"the trend of {name} over {window} is not known")
    if not found.significant or found.direction != asked:
        return Evaluation("fails", f"{name} is not significantly going {asked} over {window}")
    moved = f"{name} went {asked} by {_percent(abs(found.change))} over {window}"
    if condition.min_change is not None and abs(found.change) < condition.min_change:
        return Evaluation("fails", f"{moved}, which is less than {_percent(condition.min_change)}")
    return Evaluation("holds", moved)


def _anomaly(condition: AnomalyCondition, signals: Signals) -> Evaluation:
    name, least = condition.anomaly, condition.min_severity or "low"
    found = signals.anomaly(name)
    if found is None:
        return Evaluation("unknown", f"whether an anomaly of {name} is open is not known")
    if found.severity is None:
        return Evaluation("fails", f"no anomaly of {name} is open")
    open_ = f"an anomaly of {name} is open, of severity {found.severity}"
    if SEVERITIES.index(found.severity) < SEVERITIES.index(least):
        return Evaluation("fails", f"{open_}, which is less than {least}")
    return Evaluation("holds", open_)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.3g} %"

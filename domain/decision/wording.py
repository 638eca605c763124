"""Numbers and constraints in plain words."""

from domain.config import LLMConfig
from domain.policy import Constraint

_UNITS_MS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s"))


def number(value: float) -> str:
    """A number at three significant digits, large ones in whole."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def value(metric: str, amount: float) -> str:
    """A metric's value with its unit: `$0.0132`, `812 ms`, `1.2 %`, quality as plain points."""
    if metric.startswith("cost"):
        return f"${number(amount)}"
    if metric.startswith("latency"):
        return f"{number(amount)} ms"
    if metric == "errors.rate":
        return f"{number(100 * amount)} %"
    return number(amount)


def duration(ms: float) -> str:
    """`90 s`, `20 min`, `24 h`, `7 d`: the largest unit of which there are at least two (or a single one)."""
    for size, unit in _UNITS_MS:
        if ms >= 2 * size or (ms == size and unit != "d"):
            return f"{number(ms / size)} {unit}"
    return f"{number(ms)} ms"


def constraint_name(constraint: Constraint) -> str:
    """A constraint's id, or what it says: `quality.avg >= 55`."""
    return constraint.id or constraint_text(constraint)


def constraint_text(constraint: Constraint) -> str:
    """What a constraint says, each of its parts."""
    parts = []
    if constraint.metric is not None:
        over = "" if constraint.window_ms is None else f" over {duration(constraint.window_ms)}"
        for bound, sign in ((constraint.min, ">="), (constraint.max, "<=")):
            if bound is not None:
                parts.append(f"{constraint.metric} {sign} {number(bound)}{over}")
    if constraint.models is not None:
        parts.append(f"models {', '.join(constraint.models)}")
    if constraint.cooldown_ms is not None:
        parts.append(f"cooldown of {duration(constraint.cooldown_ms)}")
    return " and ".join(parts)


def changes(before: LLMConfig, after: LLMConfig) -> str:
    """What differs: `mistral/x in place of openai/y, temperature 0.7 -> 0.2`."""
    parts = []
    if after.model_key != before.model_key:
        parts.append(f"{after.model_key} in place of {before.model_key}")
    for name, old, new in (
        ("temperature", before.temperature, after.temperature),
        ("topP", before.top_p, after.top_p),
        ("maxTokens", before.max_tokens, after.max_tokens),
        ("topK", before.top_k, after.top_k),
    ):
        if old != new:
            parts.append(f"{name} {_setting(old)} -> {_setting(new)}")
    return ", ".join(parts)


def _setting(setting: float | None) -> str:
    return "none" if setting is None else f"{setting:g}"

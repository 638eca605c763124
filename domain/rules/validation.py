"""What is wrong with the rules and triggers of a policy, said when it is saved."""

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from domain.analytics import DAY_MS
from domain.conditions import (
    TREND_WINDOWS,
    WINDOW_MS,
    AllCondition,
    AnomalyCondition,
    AnyCondition,
    Condition,
    ConfigChange,
    MetricCondition,
    ModelSwitch,
    NotCondition,
    RollBack,
    Rule,
    TrendCondition,
)
from domain.config import LLMConfig
from domain.decision.constraints import allows_model
from domain.metrics import HIGHEST, WATCHED
from domain.policy import ServicePolicy
from domain.scope import scope_of_version

MAX_DEPTH = 8
MAX_LEAVES = 64
REACH_DAYS = 90
"""How far back the windows of a condition may reach."""

_FIELDS = {field.alias or name: name for name, field in LLMConfig.model_fields.items()}
_ANY = LLMConfig(
    provider="any",
    model="any",
    temperature=1.0,
    top_p=1.0,
    max_tokens=1,
    streaming=False,
    function_calling=False,
    vision_enabled=False,
)


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong, and at which field of the policy."""

    field: str
    reason: str


def faults(policy: ServicePolicy) -> list[Fault]:
    """Every fault of a policy's rules and triggers, in their order."""
    found = []
    for index, rule in enumerate(policy.rules):
        found += _condition_faults(rule.condition, f"rules[{index}].condition")
        found += _action_faults(rule, policy, f"rules[{index}].action")
    for index, trigger in enumerate(policy.triggers):
        found += _condition_faults(trigger.condition, f"triggers[{index}].condition")
    return found


def rolled_back_to(policy: ServicePolicy) -> dict[str, str]:
    """The versions that rules name to go back to, by the field that names them."""
    return {
        f"rules[{index}].action.toVersion": rule.action.to_version
        for index, rule in enumerate(policy.rules)
        if isinstance(rule.action, RollBack) and rule.action.to_version is not None
    }


def _condition_faults(condition: Condition, field: str) -> list[Fault]:
    shape = list(_walk(condition, field, 1))
    if len(shape) > MAX_LEAVES or any(depth > MAX_DEPTH for _, _, depth in shape):
        return [
            Fault(
                field, f"more than {MAX_LEAVES} conditions, or nested deeper than {MAX_DEPTH}, are too many"
            )
        ]
    return [fault for leaf, path, _ in shape for fault in _leaf_faults(leaf, path)]


def _walk(condition: Condition, field: str, depth: int) -> Iterator[tuple[Condition, str, int]]:
    """The leaves with their fields and depths; what lies deeper than is allowed is not looked at."""
    parts: list[tuple[Condition, str]]
    match condition:
        case AllCondition():
            parts = [(part, f"{field}.all[{index}]") for index, part in enumerate(condition.all)]
        case AnyCondition():
            parts = [(part, f"{field}.any[{index}]") for index, part in enumerate(condition.any)]
        case NotCondition():
            parts = [(condition.not_, f"{field}.not")]
        case _:
            parts = []
    if not parts or depth > MAX_DEPTH:
        yield condition, field, depth
        return
    for part, path in parts:
        yield from _walk(part, path, depth + 1)


def _leaf_faults(leaf: Condition, field: str) -> Iterator[Fault]:
    if isinstance(leaf, TrendCondition) and leaf.window not in TREND_WINDOWS:
        yield Fault(f"{field}.window", f"trends are looked for over {', '.join(TREND_WINDOWS)}")
    if isinstance(leaf, TrendCondition) and leaf.trend not in WATCHED:
        yield Fault(f"{field}.trend", f"trends are looked for in {', '.join(WATCHED)}")
    if isinstance(leaf, AnomalyCondition) and leaf.anomaly not in WATCHED:
        yield Fault(f"{field}.anomaly", f"anomalies are looked for in {', '.join(WATCHED)}")
    if not isinstance(leaf, MetricCondition):
        return
    reach = (leaf.for_windows or 1) * WINDOW_MS[leaf.window]
    if reach > REACH_DAYS * DAY_MS:
        yield Fault(
            f"{field}.forWindows",
            f"{leaf.for_windows} windows of {leaf.window} reach back {reach / DAY_MS:g} days, more than "
            f"{REACH_DAYS}",
        )
    if why := _never_or_always(leaf):
        yield Fault(f"{field}.value", why)


def _never_or_always(leaf: MetricCondition) -> str | None:
    """A comparison whose answer is known without looking."""
    highest = HIGHEST.get(leaf.metric)
    span = "is never negative" if highest is None else f"lies in 0..{highest:g}"
    said = f"{leaf.metric} {leaf.op} {leaf.value:g}"
    never = {">": leaf.value >= highest, ">=": leaf.value > highest} if highest is not None else {}
    never |= {"<": leaf.value <= 0, "<=": leaf.value < 0}
    always = {"<": leaf.value > highest, "<=": leaf.value >= highest} if highest is not None else {}
    always |= {">": leaf.value < 0, ">=": leaf.value <= 0}
    if never.get(leaf.op):
        return f"{leaf.metric} {span}: {said} never holds"
    if always.get(leaf.op):
        return f"{leaf.metric} {span}: {said} always holds"
    return None


def _action_faults(rule: Rule, policy: ServicePolicy, field: str) -> Iterator[Fault]:
    match rule.action:
        case ConfigChange():
            yield from _set_faults(rule.action, policy, f"{field}.set")
        case ModelSwitch():
            if why := _foreign(rule.action.provider, rule.action.model, policy):
                yield Fault(f"{field}.model", why)
        case RollBack(to_version=str(version)) if scope_of_version(version) != policy.service:
            yield Fault(f"{field}.toVersion", f"{version!r} is no version of {policy.service}")


def _set_faults(action: ConfigChange, policy: ServicePolicy, field: str) -> Iterator[Fault]:
    unknown = sorted(set(action.set) - set(_FIELDS))
    if unknown:
        known = ", ".join(_FIELDS)
        yield from (Fault(f"{field}.{name}", f"no such field; one of {known}") for name in unknown)
        return
    try:
        LLMConfig.model_validate({**_ANY.to_json(), **action.set})
    except ValidationError as error:
        for fault in error.errors(include_url=False):
            yield Fault(".".join((field, *map(str, fault["loc"]))), str(fault["msg"]))
        return
    if "provider" in action.set and "model" not in action.set:
        yield Fault(f"{field}.provider", "a provider is changed together with the model")
    elif {"provider", "model"} <= set(action.set) and (
        why := _foreign(action.set["provider"], action.set["model"], policy)
    ):
        yield Fault(f"{field}.model", why)


def _foreign(provider: str, model: str, policy: ServicePolicy) -> str | None:
    """Why a model may not be switched to: a constraint forbids it, or nothing in the policy names it."""
    key = f"{provider}/{model}"
    named = [constraint for constraint in policy.constraints if constraint.models is not None]
    for constraint in named:
        if constraint.type == "hard" and not allows_model(constraint, provider, model):
            allowed = ", ".join(constraint.models or ())
            return f"{key} is not among the models that a hard constraint allows: {allowed}"
    in_space = any(entry.key == key for entry in policy.search_space.models)
    if in_space or any(allows_model(constraint, provider, model) for constraint in named):
        return None
    return f"{key} is neither in searchSpace.models nor allowed by a constraint's models"

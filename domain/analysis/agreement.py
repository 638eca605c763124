"""Which of a service's anomalies are sure enough to act on."""

from collections.abc import Iterable, Sequence

from domain.analysis.anomaly import Anomaly
from domain.base import Message

SURE_STRENGTH = 1.35
"""An anomaly as strong as this needs no second metric: its score would alert with this constant as well."""
SAME_TIME_MS = 3_600_000
# Metrics of one cause move together. 1: in the same direction, -1: in opposite ones, 0: in any, as errors may
# come fast or after a timeout.
RELATED: dict[frozenset[str], int] = {
    frozenset({"latency"}): 1,
    frozenset({"tokens"}): 1,
    frozenset({"cost"}): 1,
    frozenset({"errors"}): 1,
    frozenset({"requests"}): 1,
    frozenset({"cost", "tokens"}): 1,
    frozenset({"latency", "tokens"}): 1,
    frozenset({"latency", "requests"}): 1,
    frozenset({"errors", "latency"}): 0,
    frozenset({"errors", "requests"}): 0,
    frozenset({"errors", "quality"}): -1,
    frozenset({"quality", "tokens"}): 0,
}


class AnomalyGroup(Message):
    """Anomalies of a service that go together; `agreed` says that two related metrics bear each other out."""

    anomalies: list[Anomaly]
    agreed: bool


def related(first: Anomaly, second: Anomaly, within_ms: int = SAME_TIME_MS) -> bool:
    """Whether two anomalies of different metrics bear each other out: one cause could be behind both, now."""
    if first.metric == second.metric:
        return False
    sign = RELATED.get(frozenset({_family(first.metric), _family(second.metric)}))
    if sign is None or (sign and (first.direction == second.direction) != (sign > 0)):
        return False
    return max(first.started_at, second.started_at) <= min(first.last_at, second.last_at) + within_ms


def agreeing(anomalies: Iterable[Anomaly], within_ms: int = SAME_TIME_MS) -> list[AnomalyGroup]:
    """Those of a service's anomalies that may be acted on, grouped by what goes together, the first first.

    A group may be acted on if something in it may be harm, and if two related metrics agree within
    `within_ms`, or harm alone is strong enough.
    """
    groups = []
    for members in _components(sorted(anomalies, key=lambda each: (each.started_at, each.metric)), within_ms):
        agreed = len(members) > 1
        harms = [each for each in members if each.harmful]
        if harms and (agreed or harms[0].strength >= SURE_STRENGTH):
            groups.append(AnomalyGroup(anomalies=members, agreed=agreed))
    return groups


def _components(anomalies: Sequence[Anomaly], within_ms: int) -> list[list[Anomaly]]:
    """The connected components of the relation, each in the given order."""
    left = list(anomalies)
    found = []
    while left:
        members = [left.pop(0)]
        for member in members:  # grows while it is gone through
            joined = [each for each in left if related(member, each, within_ms)]
            left = [each for each in left if each not in joined]
            members.extend(joined)
        found.append(sorted(members, key=anomalies.index))
    return found


def _family(metric: str) -> str:
    return metric.split(".")[0]

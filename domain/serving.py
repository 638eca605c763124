"""Which configuration is served to whom: inheritance, the canary's share, and the watch over it."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from domain.assignment import assigned_to_canary
from domain.scope import Scope


@dataclass(frozen=True, slots=True)
class Served:
    """A version in service: its configuration as JSON, since when (ms) and by whose hand."""

    version: str
    config: Mapping[str, Any]
    applied_at: int
    applied_by: str


@dataclass(frozen=True, slots=True)
class Canary:
    """A rollout's share of a scope's traffic, served while somebody watches it.

    `traffic_percent` is 0..100, `watched_until` in ms by the database's clock.
    """

    deployment_id: str
    traffic_percent: float
    watched_until: int
    control: Served
    canary: Served


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a scope serves: to all the control, to a share the canary where one runs.

    `owner` is the scope, itself or a parent, whose configuration or rollout it is.
    """

    owner: str
    control: Served
    canary: Canary | None

    def canary_at(self, now_ms: int) -> Canary | None:
        """The canary, unless nobody watches it any more."""
        if self.canary is None or now_ms >= self.canary.watched_until:
            return None
        return self.canary


@dataclass(frozen=True, slots=True)
class ServingTable:
    """Every scope's active version and every open share, at one moment."""

    active: Mapping[str, Served]
    canaries: Mapping[str, Canary]

    def resolve(self, scope: Scope) -> Resolution | None:
        """What a scope serves, its own or the nearest parent's; None where there is nothing to inherit."""
        for name in map(str, (scope, *scope.parents)):
            canary = self.canaries.get(name)
            if canary is not None:
                return Resolution(name, canary.control, canary)
            if name in self.active:
                return Resolution(name, self.active[name], None)
        return None


def takes_canary(canary: Canary, unit: str | None) -> bool:
    """Whether a unit gets the canary; without a unit each call draws by the share."""
    if unit is None:
        return random.random() * 100 < canary.traffic_percent
    return assigned_to_canary(canary.deployment_id, unit, canary.traffic_percent)


def overrides(config: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """The fields in which a configuration differs from another; one that it lacks is None."""
    names = [*config, *(name for name in base if name not in config)]
    return {name: config.get(name) for name in names if config.get(name) != base.get(name)}

"""All that a scope's callers may be answered with, from what the server answers two of them."""

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llm_auto_optimizer._assignment import takes_canary
from llm_auto_optimizer._config import Rollout, ScopeAnswer

from api.configs.rendering import Rendered, render

_TRIES = 100_000
_OF_CURRENT = frozenset({"appliedAt", "appliedBy"})
_OF_SERVICE = frozenset({"service", "overrides"})


@dataclass(frozen=True, slots=True)
class Bodies:
    """What the server says to each arm, and what holds where nobody watches the canary."""

    control: Mapping[str, Any]
    canary: Mapping[str, Any]
    lasting: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Arms:
    """The answers. Without a watched canary everybody gets `alone`."""

    answer: ScopeAnswer
    alone: Rendered
    to_control: Rendered
    to_canary: Rendered

    def choose(self, unit: str | None) -> Rendered:
        """A unit's answer; without a unit, drawn by the share."""
        rollout = self.answer.rollout
        now = time.monotonic()
        if rollout is None or now >= rollout.watched_until:
            return self.alone
        return self.to_canary if self.answer.draw(unit, now).is_canary else self.to_control

    @property
    def lapses_in(self) -> float | None:
        """In how many seconds the canary is served no more unless its watch is renewed; None without one."""
        rollout = self.answer.rollout
        left = -1.0 if rollout is None else rollout.watched_until - time.monotonic()
        return left + 0.001 if left >= 0 else None


def bodies_of(answer: ScopeAnswer, other: ScopeAnswer | None) -> Bodies:
    """What both arms are answered; `other` is what the server says to the one that `answer` is not for.

    Without a rollout, or where nobody is in the other arm, there is no `other`.
    """
    body = dict(answer.body or {})
    rollout = answer.rollout
    if rollout is None:
        return Bodies(body, body, body)
    beside = _in_place_of(body, rollout) if other is None else dict(other.body or {})
    canary, control = (body, beside) if is_canary(answer) else (beside, body)
    lasting = {name: value for name, value in control.items() if name != "rollout"}
    return Bodies(control, canary, lasting)


def as_service(answer: ScopeAnswer, bodies: Bodies) -> Arms:
    """The answers of `/config/service/{service}`."""
    return _rendered(answer, bodies, _OF_CURRENT)


def as_current(answer: ScopeAnswer, bodies: Bodies) -> Arms:
    """The answers of `/config/current`."""
    return _rendered(answer, bodies, _OF_SERVICE)


def is_canary(answer: ScopeAnswer) -> bool:
    """Whether an answer is the canary's."""
    return answer.rollout is not None and answer.config.version == answer.rollout.canary.version


def unit_in(rollout: Rollout, *, canary: bool) -> str | None:
    """A unit that is in one of the arms, None where nobody is."""
    if not 0 < rollout.traffic_percent < 100:
        return None
    for _ in range(_TRIES):
        unit = secrets.token_hex(8)
        if takes_canary(rollout.deployment_id, unit, rollout.traffic_percent) == canary:
            return unit
    return None


def _rendered(answer: ScopeAnswer, bodies: Bodies, left_out: frozenset[str]) -> Arms:
    def rendered(body: Mapping[str, Any]) -> Rendered:
        return render({name: value for name, value in body.items() if name not in left_out})

    alone = rendered(bodies.lasting)
    if answer.rollout is None:
        return Arms(answer, alone, alone, alone)
    return Arms(answer, alone, rendered(bodies.control), rendered(bodies.canary))


def _in_place_of(body: Mapping[str, Any], rollout: Rollout) -> dict[str, Any]:
    block = body["rollout"]
    arm = block["control"] if body["version"] == rollout.canary.version else block["canary"]
    return {**body, "version": arm["version"], "config": arm["config"]}

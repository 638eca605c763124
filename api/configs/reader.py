"""Configuration answers, rendered once per change and scope."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

from api.configs.rendering import MAX_UNIT, Rendered, render
from api.context import API_PREFIX
from domain.errors import InvalidRequest, NotFound, OptimizerError
from domain.scope import GLOBAL, Scope, scope_of
from domain.serving import Canary, Resolution, Served, overrides, takes_canary
from storage.snapshot import LiveSnapshot, Snapshot

PREFIX = f"{API_PREFIX}/config/"
CACHED_ANSWERS = 5_000
CACHED_ADDRESSES = 10_000
MAX_ADDRESS = 8192
_CURRENT, _SERVICE = f"{PREFIX}current".encode(), f"{PREFIX}service/".encode()
_UNIT = b"unit="
_BEFORE_UNIT = (b"?", b"&")


@dataclass(frozen=True, slots=True)
class _Answers:
    """All that a scope may be answered with. Without a watched canary everybody gets `alone`."""

    alone: Rendered
    canary: Canary | None = None
    to_control: Rendered | None = None
    to_canary: Rendered | None = None


@dataclass(frozen=True, slots=True)
class ReadTarget:
    """What a read asks for: a scope, as `/current` or as a service's answer, for a unit or for none."""

    scope: Scope
    as_service: bool
    unit: str | None


class ConfigReader:
    """Answers from the live snapshot. What was rendered is kept until the snapshot changes."""

    def __init__(self, snapshot: LiveSnapshot) -> None:
        self._snapshot = snapshot
        self._seen: Snapshot | None = None
        self._answers: dict[tuple[Scope, bool], _Answers] = {}
        self._by_address: dict[bytes, tuple[_Answers, str | None]] = {}

    def read(self, target: ReadTarget) -> Rendered:
        """The answer.

        Raises:
            NotFound: the scope serves nothing, and there is nothing to inherit.
            DatabaseError: nothing was read yet.
        """
        answers = self._answers_to(target)
        return self._choose(answers, target.unit) if answers.canary else answers.alone

    def lapses_in(self, target: ReadTarget) -> float | None:
        """In how many seconds the answer changes by itself, unless the canary's watch is renewed till then.

        None where no canary is served. Raises as `read`.
        """
        canary = self._answers_to(target).canary
        left = -1 if canary is None else canary.watched_until - self._snapshot.now_ms()
        return (left + 1) / 1000 if left >= 0 else None

    def read_address(self, address: bytes) -> Rendered | None:
        """The answer to a plain read by its path and query, None where that takes a closer look.

        A unit at the end is left out of what is remembered: there are as many as there are users.
        """
        rest, _, end = address.rpartition(_UNIT)
        split = rest[-1:] in _BEFORE_UNIT and b"&" not in end and b"#" not in end and len(end) <= MAX_UNIT
        if not split:
            rest = address
            if address[-1:] in _BEFORE_UNIT:
                return None
        try:
            self._keep_up()
            known = self._by_address.get(rest) or self._look_up(rest, split)
        except OptimizerError:
            return None
        if known is None:
            return None
        answers, unit = known
        if answers.canary is None:
            return answers.alone
        return self._choose(answers, unquote_plus(end.decode("latin-1")) if split else unit)

    def _look_up(self, address: bytes, split: bool) -> tuple[_Answers, str | None] | None:
        target = parse_target(address + _UNIT if split else address)
        if target is None:
            return None
        known = (self._answers_to(target), target.unit)
        if len(self._by_address) >= CACHED_ADDRESSES:
            self._by_address.clear()
        self._by_address[address] = known
        return known

    def _keep_up(self) -> Snapshot:
        current = self._snapshot.current
        if current is not self._seen:
            self._answers, self._by_address, self._seen = {}, {}, current
        return current

    def _answers_to(self, target: ReadTarget) -> _Answers:
        current = self._keep_up()
        key = (target.scope, target.as_service)
        answers = self._answers.get(key)
        if answers is None:
            answers = _render(current, target)
            if len(self._answers) >= CACHED_ANSWERS:
                # The addresses would go on holding what is let go.
                self._answers, self._by_address = {}, {}
            self._answers[key] = answers
        return answers

    def _choose(self, answers: _Answers, unit: str | None) -> Rendered:
        canary = answers.canary
        if canary is None or self._snapshot.now_ms() >= canary.watched_until:
            return answers.alone
        chosen = answers.to_canary if takes_canary(canary, unit) else answers.to_control
        return chosen or answers.alone


def parse_target(address: bytes) -> ReadTarget | None:
    """What a path and query ask, None where that takes a closer look."""
    if len(address) > MAX_ADDRESS or b"#" in address:
        return None
    path, _, query = address.partition(b"?")
    service = path.removeprefix(_SERVICE)
    as_service = service != path
    if not as_service and path != _CURRENT:
        return None
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, strict_parsing=bool(query))
        given = dict(pairs)
        if len(given) < len(pairs) or not given.keys() <= ({"unit", "endpoint"} if as_service else {"unit"}):
            return None
        unit = given.get("unit")
        if unit is not None and len(unit) > MAX_UNIT:
            return None
        return target_of(service.decode("ascii") if as_service else None, given.get("endpoint"), unit)
    except (ValueError, InvalidRequest):
        return None


def target_of(service: str | None, endpoint: str | None, unit: str | None) -> ReadTarget:
    """What is asked for a service (None: `/current`), an endpoint of it and a unit.

    Raises:
        InvalidRequest: a name that is not allowed.
    """
    return ReadTarget(scope_of(service, endpoint), service is not None, unit)


def _render(current: Snapshot, target: ReadTarget) -> _Answers:
    resolution = current.serving.resolve(target.scope)
    if resolution is None:
        raise NotFound(f"no configuration for {target.scope} yet, nor a global one to inherit")
    base = current.serving.active.get(GLOBAL)
    # What is inherited from the global scope overrides nothing of it, whichever arm it comes from.
    base = None if resolution.owner == GLOBAL else base
    alone = _rendered(target, resolution.control, base, None)
    canary = resolution.canary
    if canary is None:
        return _Answers(alone)
    block = _rollout(resolution, canary)
    return _Answers(
        alone,
        canary,
        to_control=_rendered(target, canary.control, base, block),
        to_canary=_rendered(target, canary.canary, base, block),
    )


def _rollout(resolution: Resolution, canary: Canary) -> dict[str, Any]:
    return {
        "deploymentId": canary.deployment_id,
        "trafficPercent": canary.traffic_percent,
        "watchedUntil": canary.watched_until,
        "control": {"version": canary.control.version, "config": canary.control.config},
        "canary": {"version": canary.canary.version, "config": canary.canary.config},
    }


def _rendered(
    target: ReadTarget, served: Served, base: Served | None, rollout: Mapping[str, Any] | None
) -> Rendered:
    answer: dict[str, Any] = {"version": served.version, "config": served.config}
    if target.as_service:
        answer = {"service": target.scope.service or GLOBAL, **answer}
        differing = overrides(served.config, base.config) if base else {}
        if differing:
            answer["overrides"] = differing
    else:
        answer |= {"appliedAt": served.applied_at, "appliedBy": served.applied_by}
    if rollout is not None:
        answer["rollout"] = rollout
    return render(answer)

"""Which configuration a service served when, from the events that every change of it leaves."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from domain.config import LLMConfig
from domain.scope import GLOBAL, Scope, parse_scope, scope_of_version
from storage.configs import ActiveConfig
from storage.tables import ConfigVersion, Event, ScopeState


@dataclass(frozen=True, slots=True)
class _Step:
    """From `at` (ms) on the scope's own version is this one; None: it has none, and inherits."""

    at: int
    version: str | None
    by: str


@dataclass(frozen=True, slots=True)
class Served:
    """The changes of a service, of its endpoints and of the global scope, each scope's in their order.

    `configs` holds the configurations of all of their versions.
    """

    service: str
    steps: Mapping[str, Sequence[_Step]]
    configs: Mapping[str, LLMConfig]

    def at(self, moment: int) -> ActiveConfig | None:
        """What the service served outside a canary at a moment (ms); None where there was nothing, or where
        nothing is known of it any more.
        """
        for scope in (self.service, *map(str, Scope(self.service).parents)):
            step = self._step(scope, moment)
            if step is not None and step.version is not None and step.version in self.configs:
                config = self.configs[step.version]
                return ActiveConfig(self.service, scope, step.version, config, step.at, step.by)
        return None

    def changes(self, since: int, until: int) -> list[int]:
        """When, in (since, until) (ms), what the service serves may have changed, ascending."""
        scopes = (self.service, *map(str, Scope(self.service).parents))
        moments = {step.at for scope in scopes for step in self.steps.get(scope, ())}
        return sorted(moment for moment in moments if since < moment < until)

    def endpoints(self, moment: int) -> tuple[str, ...]:
        """The service's endpoints (as scopes) that had a configuration of their own at a moment (ms)."""
        named = (scope for scope in self.steps if parse_scope(scope).endpoint is not None)
        return tuple(sorted(scope for scope in named if self._own(scope, moment)))

    def _own(self, scope: str, moment: int) -> bool:
        step = self._step(scope, moment)
        return step is not None and step.version is not None

    def _step(self, scope: str, moment: int) -> _Step | None:
        steps = self.steps.get(scope, ())
        index = bisect_right(steps, moment, key=lambda step: step.at)
        return steps[index - 1] if index else None


async def read(session: AsyncSession, service: str) -> Served:
    """What is known of what a service served, as far back as events are kept.

    What a scope served before the first event that is kept is known from that event, but not since when: it
    is taken to have been served since it was made.
    """
    scopes = await _scopes(session, service)
    query = select(ConfigVersion).where(ConfigVersion.scope.in_(scopes))
    made = {row.version: row for row in (await session.execute(query)).scalars()}
    events = await _events(session, list(scopes))
    return Served(
        service=service,
        steps={scope: _steps(scope, events[scope], state, made) for scope, state in scopes.items()},
        configs={name: LLMConfig.model_validate(row.config) for name, row in made.items()},
    )


async def _scopes(session: AsyncSession, service: str) -> dict[str, ScopeState]:
    """The service's scope, those of its endpoints, and the global one, as far as they ever had a version."""
    of_service = or_(
        ScopeState.scope.in_((service, GLOBAL)), ScopeState.scope.startswith(f"{service}:", autoescape=True)
    )
    rows = (await session.execute(select(ScopeState).where(of_service))).scalars()
    return {row.scope: row for row in rows}


@dataclass(frozen=True, slots=True)
class _Change:
    at: int
    previous: str
    new: str
    by: str


async def _events(session: AsyncSession, scopes: Sequence[str]) -> dict[str, list[_Change]]:
    """The changes of each scope in their order: they are written while the scope is locked."""
    data = Event.data
    query = (
        select(
            Event.scope,
            Event.timestamp,
            data["previousVersion"].as_string().label("previous"),
            data["newVersion"].as_string().label("new"),
            data["changedBy"].as_string().label("by"),
        )
        .where(Event.type == "config.changed", Event.scope.in_(scopes))
        .order_by(Event.sequence)
    )
    found: dict[str, list[_Change]] = defaultdict(list)
    for row in await session.execute(query):
        found[row.scope].append(_Change(row.timestamp, row.previous, row.new, row.by))
    return found


def _steps(
    scope: str, events: Sequence[_Change], state: ScopeState, made: Mapping[str, ConfigVersion]
) -> list[_Step]:
    """The steps that the events tell, with what came before the first, and what they do not tell."""
    steps: list[_Step] = []
    if events and scope_of_version(events[0].previous) == scope and events[0].previous in made:
        first = made[events[0].previous]
        steps.append(_Step(min(first.created_at, events[0].at), first.version, first.created_by))
    for event in events:
        own = event.new if scope_of_version(event.new) == scope else None
        # Times are those of the transactions' beginnings, which a wait for the scope may have put in
        # another order than the changes.
        steps.append(_Step(max([event.at, *(step.at for step in steps[-1:])]), own, event.by))
    applied_at = state.applied_at or (made[state.active_version].created_at if state.active_version else 0)
    if state.active_version != (steps[-1].version if steps else None):
        steps.append(_Step(applied_at, state.active_version, state.applied_by or ""))
    return steps

"""Configurations: what each scope serves, and its versions."""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.config import LLMConfig
from domain.errors import NotFound
from domain.scope import Scope, scope_of_version, version_name
from storage.events import emit
from storage.tables import ConfigVersion, Rollout, ScopeState, db_now


@dataclass(frozen=True, slots=True)
class ActiveConfig:
    """What a scope serves outside a canary. `scope` is the asked one, `owner` whose version it is."""

    scope: str
    owner: str
    version: str
    config: LLMConfig
    applied_at: int
    applied_by: str

    @property
    def inherited(self) -> bool:
        """Whether the scope has no configuration of its own."""
        return self.owner != self.scope


async def active(session: AsyncSession, scope: Scope) -> ActiveConfig | None:
    """What a scope serves, its own or the nearest parent's; None where there is nothing to inherit."""
    names = [str(scope), *map(str, scope.parents)]
    rows = await session.execute(
        select(ScopeState, ConfigVersion)
        .join(ConfigVersion, ConfigVersion.version == ScopeState.active_version)
        .where(ScopeState.scope.in_(names))
        .execution_options(populate_existing=True)
    )
    found = {state.scope: (state, version) for state, version in rows}
    for name in names:
        if name in found:
            state, version = found[name]
            return ActiveConfig(
                scope=str(scope),
                owner=name,
                version=version.version,
                config=LLMConfig.model_validate(version.config),
                applied_at=state.applied_at or version.created_at,
                applied_by=state.applied_by or version.created_by,
            )
    return None


async def lock_scope(session: AsyncSession, scope: str) -> ScopeState:
    """The scope's row, made where it is missing, locked until the transaction ends."""
    await session.execute(insert(ScopeState).values(scope=scope).on_conflict_do_nothing())
    query = select(ScopeState).where(ScopeState.scope == scope).with_for_update()
    return (await session.execute(query.execution_options(populate_existing=True))).scalar_one()


async def create_version(
    session: AsyncSession,
    state: ScopeState,
    config: LLMConfig,
    *,
    by: str,
    change_type: str,
    reason: str,
    deployment_id: str | None = None,
    derived_from: str | None = None,
) -> ConfigVersion:
    """The next version of a scope whose row the caller holds locked."""
    state.last_number += 1
    version = ConfigVersion(
        version=version_name(state.scope, state.last_number),
        scope=state.scope,
        number=state.last_number,
        config=config.to_json(),
        created_by=by,
        change_type=change_type,
        reason=reason,
        deployment_id=deployment_id,
        derived_from=derived_from,
    )
    session.add(version)
    await session.flush()
    return version


async def get_version(session: AsyncSession, version: str) -> ConfigVersion:
    """A version by name.

    Raises:
        NotFound: there is none of that name.
    """
    row = await session.get(ConfigVersion, version)
    if row is None:
        raise NotFound(f"no version {version!r}")
    return row


async def named(session: AsyncSession, versions: Iterable[str]) -> dict[str, LLMConfig]:
    """The configurations of some versions by name; a name that no version has is left out."""
    query = select(ConfigVersion.version, ConfigVersion.config).where(
        ConfigVersion.version.in_(set(versions))
    )
    return {row.version: LLMConfig.model_validate(row.config) for row in await session.execute(query)}


async def list_versions(
    session: AsyncSession, scope: str | None, *, limit: int, offset: int
) -> tuple[int, list[ConfigVersion]]:
    """How many versions there are (of a scope, or of all), and a page of them, the newest first."""
    query = select(ConfigVersion)
    if scope is not None:
        query = query.where(ConfigVersion.scope == scope)
    total = (await session.execute(select(func.count()).select_from(query.subquery()))).scalar_one()
    page = query.order_by(ConfigVersion.created_at.desc(), ConfigVersion.number.desc())
    rows = (await session.execute(page.limit(limit).offset(offset))).scalars()
    return total, list(rows)


async def serve(
    session: AsyncSession,
    state: ScopeState,
    version: str | None,
    *,
    previous: str,
    by: str,
    change_type: str,
    reason: str,
    good: bool,
) -> None:
    """Move a scope's active flag to a version, or to None for what it inherits, and say so.

    `previous` is the version that was served; `good` marks the new one as known good.
    """
    if state.active_version != version:
        state.active_version = version
        state.applied_at = db_now()
        state.applied_by = by
    if good:
        state.known_good_version = version
    new = version
    if new is None:
        inherited = await active(session, _parent_of(state.scope))
        new = inherited.version if inherited else previous
    await session.flush()
    if new == previous:
        return
    emit(
        session,
        "config.changed",
        state.scope,
        {
            "previousVersion": previous,
            "newVersion": new,
            "previousConfig": (await get_version(session, previous)).config,
            "newConfig": (await get_version(session, new)).config,
            "changeType": change_type,
            "changedBy": by,
            "reason": reason,
        },
    )


def _parent_of(scope: str) -> Scope:
    service, separator, _ = scope.partition(":")
    return Scope(service) if separator else Scope()


async def apply_first(
    session: AsyncSession, state: ScopeState, config: LLMConfig, *, by: str, change_type: str, reason: str
) -> ConfigVersion:
    """A scope's first configuration where there is nothing to inherit: served at once, and known good."""
    version = await create_version(session, state, config, by=by, change_type=change_type, reason=reason)
    state.active_version = state.known_good_version = version.version
    state.applied_at = db_now()
    state.applied_by = by
    await session.flush()
    emit(
        session,
        "config.changed",
        state.scope,
        {
            "previousVersion": "",
            "newVersion": version.version,
            "previousConfig": version.config,
            "newConfig": version.config,
            "changeType": change_type,
            "changedBy": by,
            "reason": reason,
        },
    )
    return version


async def restore_known_good(session: AsyncSession, *, reason: str, by: str) -> None:
    """Put each scope that serves something else back on its last version known good."""
    states = (
        await session.execute(
            select(ScopeState)
            .where(ScopeState.active_version.is_not(None))
            .where(ScopeState.active_version.is_distinct_from(ScopeState.known_good_version))
            .order_by(ScopeState.scope)
            .with_for_update()
        )
    ).scalars()
    for state in list(states):
        previous = state.active_version
        if previous is not None:
            await serve(
                session,
                state,
                state.known_good_version,
                previous=previous,
                by=by,
                change_type="manual",
                reason=reason,
                good=False,
            )


def inherits_before(rollout: Rollout) -> bool:
    """Whether the rollout's scope had no configuration of its own when it began."""
    return scope_of_version(rollout.from_version) != rollout.scope
